import Billing
import Foundation
import MeteringTestKit
import NIOSSL
import PostgresStore
import ServiceRuntime
import StripeExport

/// A database with usage, and the server that stands in for Stripe.
final class ExportSetup {
  let database: TestDatabase
  let stripe: FakeStripe

  init(window: String? = nil, arguments: [String] = []) throws {
    database = try TestDatabase()
    stripe = try FakeStripe(arguments)
    if !arguments.contains("--port") { try stripe.addMeter(window: window) }
  }

  /// Adds a customer with two licenses. Returns Stripe's id of it, if it is linked.
  @discardableResult
  func addCustomer(_ id: String, isLinked: Bool = true) throws -> String? {
    let stripeID = isLinked ? try stripe.addCustomer() : nil
    _ = try database.rows(
      """
      with c as (insert into customer (customer_id, name, stripe_customer_id) values ($1, 'C', $2))
      select 1
      """, [.text(id), .optional(stripeID)])
    for license in ["a", "b"] {
      _ = try database.rows(
        """
        insert into license (license_id, customer_id, plan, issued_at, expires_at)
        values ($1, $2, 'p', now(), now() + interval '1 year')
        """, [.text("lic_\(id)_\(license)"), .text(id)])
    }
    return stripeID
  }

  /// Adds usage of one of the customer's two licenses, some hours before the current one.
  func use(_ customer: String, hoursAgo: Int, _ quantity: Int64, license: String = "a") throws {
    _ = try database.rows(
      """
      insert into usage_pending (log_epoch, partition, license_id, meter, hour, first_offset,
        last_offset, quantity, event_count, minutes, dimensions)
      values (1, 0, $1, 'api_calls', date_trunc('hour', now()) - $2::int * interval '1 hour', 0, 0,
        $3, 1, '', '')
      """,
      [.text("lic_\(customer)_\(license)"), .int(hoursAgo), .integer(quantity)])
  }

  /// Starts `meterctl` with everything that the export needs.
  func start(_ arguments: String..., environment: [String: String] = [:]) throws -> ChildProcess {
    var all = stripe.environment
    all["METER_DATABASE_URL"] = database.url
    return try ChildProcess(
      ChildProcess.product("meterctl"), arguments, environment: all.merging(environment) { $1 })
  }

  func run(
    _ arguments: String..., environment: [String: String] = [:]
  ) throws -> (status: Int32, output: String) {
    var all = stripe.environment
    all["METER_DATABASE_URL"] = database.url
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), arguments, environment: all.merging(environment) { $1 })
    let status = process.wait()
    try eventually("all is read") { process.outputEnded }
    return (status, process.output)
  }

  static func json(_ text: String) throws -> [String: Any] {
    try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any] ?? [:]
  }

  /// Runs the export within this process, with pauses that take no time.
  func export(
    mode: StripeMode = .sum, client: StripeClient? = nil
  ) async throws -> StripeExportReport {
    let url = database.url
    let exporter = StripeExporter(
      database: try await StripeDatabase.open {
        try PostgresConnection(url: url, application: "test")
      }, client: try client ?? self.client())
    return try await exporter.export(
      mode: mode, through: nil, needsLog: false,
      by: AuditContext(actorKind: .operator, actorID: "test"))
  }

  func client() throws -> StripeClient {
    guard let settings = try StripeSettings(Settings(environment: stripe.environment)) else {
      throw NeverHappened(description: "there is a key")
    }
    return StripeClient(settings, paceMilliseconds: 1)
  }

  /// A client that speaks TLS to a name of this machine and trusts the certificates in a file.
  func secureClient(host: String, trusting file: String?) throws -> StripeClient {
    var environment = stripe.environment
    environment["METER_STRIPE_API_BASE"] = "https://\(host):\(stripe.tlsPort ?? 0)"
    guard let settings = try StripeSettings(Settings(environment: environment)) else {
      throw NeverHappened(description: "there is a key")
    }
    return StripeClient(settings, trustRoots: file.map { .file($0) }, paceMilliseconds: 1)
  }

  /// Lets a day pass by moving Stripe's clock and the database's times of doubt.
  func letADayPass() throws {
    try stripe.control("clock", #"{"advance":90000}"#)
    try database.execute(
      """
      update stripe_export_event set in_doubt_since = in_doubt_since - interval '25 hours';
      update stripe_export set updated_at = updated_at - interval '25 hours'
      """)
  }

  func statuses() throws -> [String] {
    try database.rows("select status from stripe_export order by hour, customer_id, meter")
      .compactMap { $0[0] }
  }
}

/// A certificate for `localhost` that is its own authority, in a folder that is removed with it.
final class OwnCertificate {
  let folder: String
  var certificate: String { folder + "/own.pem" }
  var key: String { folder + "/own.key" }

  init() throws {
    folder = NSTemporaryDirectory() + "certificate-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let openssl = try ChildProcess(
      "/usr/bin/env",
      [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
      ])
    guard openssl.wait() == 0 else {
      throw NeverHappened(description: "openssl: \(openssl.output)")
    }
  }

  // The system clears what is left.
  deinit { try? FileManager.default.removeItem(atPath: folder) }
}
