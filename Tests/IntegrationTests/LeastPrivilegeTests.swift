import Foundation
import MeteringTestKit
import PostgresStore
import Synchronization
import Testing

/// A PostgreSQL that accepts services only over TLS with their own certificates. Each is a member
/// of one of the roles in `deploy/roles.sql`. The schema belongs to an owner who is not a
/// superuser.
private final class GuardedPostgres {
  let server: PrivatePostgres
  let authority: PrivateAuthority
  let database: TestDatabase
  private let owner: PostgresConnection

  init() throws {
    server = try PrivatePostgres()
    let admin = try PostgresConnection(url: server.url(), application: "test")
    try admin.execute("create role owner login createrole")
    try admin.execute("create database guarded owner owner")
    try server.write(["host all all 127.0.0.1/32 trust"], to: "data/pg_hba.conf")
    try server.reload()
    owner = try PostgresConnection(
      url: "postgresql://owner@127.0.0.1:\(server.port)/guarded", application: "test")
    _ = try Schema.migrate(owner)
    // The script is run after every migration, so running it again must change nothing.
    for _ in 0..<2 { try Self.run("roles.sql", as: owner) }
    authority = try PrivateAuthority("authority", beside: server)
    try server.requireCertificates(of: authority)
    database = TestDatabase(url: server.url("guarded"))
    // The server applies the settings some moments after the reload.
    try eventually("TLS is on") { try database.rows("show ssl") == [["on"]] }
  }

  private static func run(_ script: String, as owner: PostgresConnection) throws {
    try owner.execute(
      String(contentsOfFile: Project.folder + "/deploy/" + script, encoding: .utf8))
  }

  /// Runs a script of the folder deploy as the owner of the database.
  func run(_ script: String) throws { try Self.run(script, as: owner) }

  /// The URL of a new login with a role. A service with that role is given such a URL.
  func url(_ role: String, changing changes: [String: String] = [:]) throws -> String {
    let login = "login_" + UUID().uuidString.lowercased().prefix(8)
    try database.execute("create role \(login) login in role \(role)")
    let files = try authority.issue(login)
    var parameters = [
      "hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": authority.certificate,
      "sslcert": files.certificate, "sslkey": files.key,
    ]
    parameters.merge(changes) { $1 }
    let host = parameters.removeValue(forKey: "host") ?? "localhost"
    let query = parameters.filter { !$0.value.isEmpty }.map { "\($0)=\($1)" }.joined(separator: "&")
    return "postgresql://\(login)@\(host):\(server.port)/guarded?\(query)"
  }

  func connection(_ role: String, changing changes: [String: String] = [:]) throws
    -> PostgresConnection
  {
    try PostgresConnection(url: url(role, changing: changes), application: "test")
  }
}

extension IntegrationTests {
  @Suite struct LeastPrivilegeTests {
    @Test
    func `Every service does its main job under its role, over TLS with a client certificate`()
      throws
    {
      let guarded = try GuardedPostgres()
      let database = guarded.database
      let pipeline = try Pipeline(log: UsageLog(partitions: 2), database: database)
      try database.addLicense("lic_0", domains: ["example.com"])
      try database.execute(
        "insert into license_limit (license_id, meter, quantity) values ('lic_0', 'api_calls', 10)")
      let hook = try HookAnswerer()
      let key = Data(repeating: 7, count: 32).base64EncodedString()
      try expectAdded(hook, key, pipeline)

      let aggregator = try pipeline.start(
        by: guarded.url("meter_usage_aggregator"))
      let detector = try pipeline.start(
        "anomaly-detector", by: guarded.url("meter_anomaly_detector"))
      let dispatcher = try pipeline.start(
        "webhook-dispatcher", by: guarded.url("meter_webhook_dispatcher"),
        environment: [
          "METER_ENCRYPTION_KEY": key, "METER_WEBHOOK_ALLOW_HTTP": "true",
          "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        ])
      let api = try pipeline.start(
        "metering-api", by: guarded.url("meter_metering_api"),
        environment: ["METER_HTTP_BIND": "127.0.0.1:\(try FreePort.next())"])
      let validation = try ValidationProcess(
        brokers: pipeline.log.brokers, databaseURL: guarded.url("meter_validation_service"))
      for process in [aggregator, detector, dispatcher, api] { try process.waitUntilReady() }
      // A limit that is summed up after the merge has no trace in its alert, because merges remove
      // the traces.
      try eventually("the new limit is known") {
        try database.integer("select count(*) from limit_change") == 0
      }

      var traffic = Traffic(pipeline.log)
      var traced = UsageEventText(id: "traced", subject: "lic_0")
      traced.quantity = 10
      traffic.truth.count(traced)
      let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
      try pipeline.log.send(
        key: "lic_0", value: Array(traced.json(changing: ["traceparent": "\"\(trace)\""]).utf8))
      try traffic.send(300)
      // A record that is no event becomes a dead letter, which the aggregator forwards.
      try pipeline.log.send(key: "lic_0", value: Array("no event".utf8))
      try validation.waitForMismatch("lic_0", domain: "stolen.example.net")
      try pipeline.waitUntilCounted()
      try eventually("every row is merged and folded") {
        try database.integer("select count(*) from usage_pending") == 0
          && database.integer("select count(*) from usage_delta") == 0
      }
      expectNone(try traffic.truth.differences(database))
      try eventually("alerts of a limit and of a foreign domain are delivered") {
        try database.integer(
          """
          select count(distinct a.type) from webhook_delivery d join alert a using (alert_id)
          where d.status = 'delivered' and a.type in ('license.limit_exceeded', 'license.suspicious_activity')
          """) == 2
      }
      #expect(
        try database.integer(
          "select count(*) from alert where evidence->0->>'traceparent' = '\(trace)'") ?? 0 > 0)
      #expect(hook.requests.contains { $0.contains("traceparent: \(trace.prefix(36))") })
      try eventually("the dead letter is forwarded") {
        try database.integer("select count(*) from dead_letter where forwarded_at is not null") == 1
      }
      try eventually("the detector stores its state") {
        try database.integer("select count(*) from detector_state") ?? 0 > 0
      }
      for process in [aggregator, detector, dispatcher, api] {
        let ready = process.ready()
        #expect(ready?.body == #"{"status":"ready","problems":{}}"#, "\(process.process.name)")
        #expect(!process.process.output.contains("permission denied"), "\(process.process.output)")
      }
      let sessions = try database.rows(
        "select distinct ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename like 'login_%'"
      )
      #expect(sessions == [["t"]])
    }

    @Test
    func `No role reaches what its service does not need`() throws {
      let guarded = try GuardedPostgres()
      let refused: [(role: String, statements: [String])] = [
        (
          "meter_usage_aggregator",
          [
            "select * from webhook_secret", "select * from api_token",
            "update license set plan = 'x'",
            "update usage_day set quantity = 0", "delete from usage_hour", "delete from alert",
            "insert into alert (type, occurred_at, data, dedupe_key) values ('x', now(), '{}', 'x')",
            "select suspicious_activity_raise('[]')",
          ]
        ),
        (
          "meter_anomaly_detector",
          [
            "select * from webhook_secret", "select * from api_token", "select usage_merge('{0}')",
            "insert into usage_pending select * from usage_pending", "select plan from license",
            "select * from usage_by_day",
          ]
        ),
        (
          "meter_webhook_dispatcher",
          [
            "select * from license", "select * from usage_by_day", "select * from api_token",
            "update webhook_secret set ciphertext = ''",
            "update webhook_endpoint set url = 'https://x'",
            "update webhook_delivery set status = 'failed'", "select * from alert",
          ]
        ),
        (
          "meter_validation_service",
          [
            "update license set status = 'active'", "delete from api_token",
            "select * from webhook_secret",
            "select * from usage_by_day", "insert into license_limit values ('a', 'b', 1)",
          ]
        ),
        (
          "meter_metering_api",
          [
            "update usage_day set quantity = 0", "delete from usage_hour",
            "delete from dead_letter", "delete from audit_log", "update alert set data = '{}'",
            "update consumer_offset set next_offset = 0", "select usage_merge('{0}')",
          ]
        ),
        (
          "meter_operator",
          [
            "update usage_day set quantity = 0", "delete from alert",
            "alter table license add x int", "delete from audit_log",
          ]
        ),
        (
          "meter_reader",
          [
            "select * from webhook_secret", "select * from api_token",
            "update customer set name = ''",
            "select webhook_claim(1, 1, '{}', '{}', 1)",
          ]
        ),
      ]
      for (role, statements) in refused {
        let connection = try guarded.connection(role)
        let everybody = ["create table mine (a int)", "create temp table merging (a int)"]
        for statement in statements + everybody {
          let error = #expect(throws: PostgresError.self, "\(role): \(statement)") {
            try connection.execute(statement)
          }
          #expect(error?.sqlState == "42501", "\(role): \(statement): \(String(describing: error))")
        }
      }
    }

    @Test
    func `People read and write through their roles, and what a change sets off happens`() throws {
      let guarded = try GuardedPostgres()
      let people = try guarded.connection("meter_operator")
      try people.execute(
        """
        insert into customer (customer_id, name) values ('cus_1', 'One');
        insert into license (license_id, customer_id, plan, issued_at, expires_at)
        values ('lic_1', 'cus_1', 'p', now(), now() + interval '1 day');
        insert into license_billing_anchor (license_id, effective_from, anchor_day) values ('lic_1', '-infinity', 3);
        insert into license_limit (license_id, meter, quantity) values ('lic_1', 'api_calls', 5);
        update license set alert_thresholds = '{50}' where license_id = 'lic_1'
        """)
      // A trigger wrote the row into a table that the operator may not write.
      #expect(
        try guarded.database.integer("select count(*) from limit_change where license_id = 'lic_1'")
          == 1)
      let reader = try guarded.connection("meter_reader")
      // For hours as old as those that retention has dropped, a view asks a function.
      try guarded.database.execute(
        """
        update usage_retention set newest_hour_gone = now() + interval '1 day';
        insert into usage_pending values (1, 0, 'lic_1', 'api_calls', date_trunc('hour', now()), 1, 1, 1,
          1, '[5,1,1]', '')
        """)
      for relation in [
        "usage_by_minute", "usage_by_hour", "usage_by_day", "usage_by_dimension_day",
        "usage_by_period", "usage_adjustment", "usage_close", "usage_provenance",
        "producer_ledger", "alert", "dead_letter", "consumer_offset", "limit_state", "license",
        "customer", "webhook_delivery",
      ] + Self.readingFunctions {
        _ = try reader.query("select * from \(relation)", operation: relation)
      }
      for function in Self.readingFunctions {
        _ = try people.query("select * from \(function)", operation: function)
      }
      let statement = try ChildProcess(
        ChildProcess.product("meterctl"),
        ["statement", "--customer", "cus_1", "--month", "2025-01", "--json"],
        environment: ["METER_DATABASE_URL": guarded.url("meter_operator")])
      #expect(statement.wait() == 0, "\(statement.output)")
    }

    private static let readingFunctions = [
      "usage_minutes('lic_1', now() - interval '1 hour', now())",
      "customer_usage_by_day('cus_1', current_date - 1, current_date)",
      "customer_usage_by_period('cus_1', current_date - 1, current_date)",
      "usage_in_periods_of(current_date)",
    ]

    @Test(arguments: [["billing-reader.sql"], ["billing-reader.sql", "roles.sql"]])
    func `A billing reader logs in and reads the views, whichever script ran last`(
      scripts: [String]
    ) throws {
      let guarded = try GuardedPostgres()
      try guarded.database.addLicense("lic_1")
      try guarded.database.execute(
        """
        insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
        select 'lic_1', 'api_calls', (now() at time zone 'UTC')::date - d, 3, 2, ''
        from unnest('{0,70}'::int[]) d;
        update usage_retention set newest_hour_gone = now() + interval '1 day';
        insert into usage_pending values (1, 0, 'lic_1', 'api_calls', date_trunc('hour', now()), 1, 1, 1,
          1, '[5,1,1]', '')
        """)
      for script in scripts { try guarded.run(script) }
      let reader = try guarded.connection("billing_reader")
      for view in [
        "billing_customer", "billing_license", "billing_usage_by_period", "billing_usage_by_day",
        "billing_usage_by_hour", "billing_usage_unregistered",
      ] { _ = try reader.query("select * from \(view)", operation: view) }
      let error = #expect(throws: PostgresError.self) {
        try reader.execute("select * from customer")
      }
      #expect(error?.sqlState == "42501")
    }

    @Test(
      "A server or a client without the right certificate is refused, and the reason holds no secret",
      arguments: [
        ("another authority", "certificate verify failed"),
        ("another host", "does not match host name"),
        ("no certificate", "connection requires a valid client certificate"),
        ("another's certificate", "certificate authentication failed"),
      ])
    func refusesCertificates(_ fault: String, _ reason: String) throws {
      let guarded = try GuardedPostgres()
      let changes: [String: String] =
        switch fault {
        case "another authority":
          [
            "sslrootcert": try PrivateAuthority("another", beside: guarded.server).certificate
          ]
        case "another host": ["host": "db.example.com"]
        case "no certificate": ["sslcert": "/nowhere/none.pem", "sslkey": ""]
        default: try othersFiles(guarded)
        }
      let pipeline = try Pipeline(partitions: 1)
      let aggregator = try pipeline.start(
        by: guarded.url("meter_usage_aggregator", changing: changes))
      try aggregator.waitUntilUnavailable(reason)
      #expect(!aggregator.process.output.contains("PRIVATE KEY"))
    }

    private func othersFiles(_ guarded: GuardedPostgres) throws -> [String: String] {
      let files = try guarded.authority.issue("somebody")
      return ["sslcert": files.certificate, "sslkey": files.key]
    }

    private func expectAdded(_ hook: HookAnswerer, _ key: String, _ pipeline: Pipeline) throws {
      let process = try ChildProcess(
        ChildProcess.product("meterctl"),
        [
          "endpoint", "add", "--all-customers", "--url", "http://127.0.0.1:\(hook.port)/", "--json",
        ],
        environment: [
          "METER_DATABASE_URL": pipeline.database.url, "METER_ENCRYPTION_KEY": key,
          "METER_WEBHOOK_ALLOW_HTTP": "true", "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        ])
      #expect(process.wait() == 0)
    }
  }
}

/// Answers every request with 200 and closes the connection.
final class HookAnswerer: Sendable {
  let port: Int
  private let listener: Int32
  private let received: Mutex<[String]>

  /// The requests that came, as they were written.
  var requests: [String] { received.withLock { $0 } }

  init() throws {
    let (listener, port) = try TCP.listen()
    self.listener = listener
    self.port = port
    received = Mutex([])
    Thread.detachNewThread { [weak self] in
      while let peer = TCP.accept(listener) {
        var request = ""
        // The dispatcher writes head and body together, but they may arrive in pieces.
        while !request.hasSuffix("}"), let part = TCP.read(peer, atMost: 65_536) {
          request += String(decoding: part, as: UTF8.self)
        }
        self?.note(request)
        _ = TCP.write(
          peer, Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".utf8))
        close(peer)
      }
      close(listener)
    }
  }

  private func note(_ request: String) { received.withLock { $0.append(request) } }

  /// The thread closes the descriptor, so that it cannot be reused while the thread still accepts.
  deinit { shutdown(listener, Int32(SHUT_RDWR)) }
}

/// A running validation-service.
final class ValidationProcess {
  let process: ChildProcess
  let adminPort: Int
  private let port: Int
  private let folder: String

  init(brokers: String, databaseURL: String) throws {
    folder = NSTemporaryDirectory() + "validation-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let keys = folder + "/keys.json"
    let made = try ChildProcess(
      ChildProcess.product("meterctl"), ["key", "generate", "--out", keys])
    guard made.wait() == 0 else { throw NeverHappened(description: made.output) }
    port = try FreePort.next()
    adminPort = try FreePort.next()
    process = try ChildProcess(
      ChildProcess.product("validation-service"),
      environment: [
        "METER_KAFKA_BROKERS": brokers, "METER_DATABASE_URL": databaseURL,
        "METER_SIGNING_KEY_FILE": keys, "METER_SPOOL_DIR": folder + "/spool",
        "METER_HTTP_BIND": "127.0.0.1:\(port)", "METER_ADMIN_BIND": "127.0.0.1:\(adminPort)",
      ])
  }

  deinit {
    if process.isRunning { process.killNow() }
    // The folder is a temporary one. If it stays, only some disk space is lost.
    try? FileManager.default.removeItem(atPath: folder)
  }

  /// Waits until the service refuses a foreign domain for the license, which shows that it has read
  /// it.
  func waitForMismatch(_ license: String, domain: String) throws {
    var last = "no answer"
    try eventually("a mismatch, but \(last); \(process.output.suffix(2_000))") {
      last = validate(license, domain: domain) ?? "no answer"
      return last.contains(#""code":"domain_mismatch""#)
    }
  }

  /// The answer as text; nil while nobody listens.
  func validate(_ license: String, domain: String, header: String = "") -> String? {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 5) else { return nil }
    defer { close(socket) }
    let body = #"{"licenseKey":"\#(license)","domain":"\#(domain)"}"#
    _ = TCP.write(
      socket,
      Array(
        ("POST /v1/licenses/validate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\(header)"
          + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
          .utf8))
    var bytes: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Where the project's files are.
enum Project {
  static let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path
}
