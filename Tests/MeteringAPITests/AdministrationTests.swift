import Foundation
import MeteringTestKit
import Testing

@Suite(.serialized)
struct AdministrationAPITests {
  @Test func `Every operation does what it says, and every write leaves one audit row`() throws {
    let fixture = try AdministrationFixture()
    for operation in fixture.reads + fixture.lists {
      let answer = try fixture.send(operation)
      #expect(answer.status == operation.status, "\(operation): \(answer.body)")
    }
    let rows = "select count(*) from audit_log"
    var secrets: [String] = []
    for (number, operation) in fixture.writes.enumerated() {
      let before = try fixture.setup.database.integer(rows) ?? 0
      let answer = try fixture.send(operation, id: "write-\(number)")
      #expect(answer.status == operation.status, "\(operation): \(answer.body)")
      #expect(try fixture.setup.database.integer(rows) == before + 1, "\(operation)")
      let row = try fixture.setup.database.rows(
        """
        select actor_kind, actor_id, status, customer_id from audit_log where request_id = 'write-\(number)'
        """)
      #expect(row.count == 1, "\(operation)")
      #expect(row.first?[0] == "token" && row.first?[1] == "tok_mtr_admin")
      #expect(row.first?[2] == "\(operation.status)", "\(operation)")
      for name in ["token", "secret", "url"] where answer.json[name] != nil {
        if operation.path.hasSuffix("/portal-sessions") {
          secrets.append(answer[name].components(separatedBy: "link=").last ?? "")
        } else if name != "url" {
          secrets.append(answer[name])
        }
      }
    }
    #expect(secrets.count == 5)
    try expectNowhere(secrets, fixture)
  }

  /// A secret that was shown once is neither stored, nor logged, nor shown again.
  private func expectNowhere(_ secrets: [String], _ fixture: AdministrationFixture) throws {
    var kept = fixture.setup.process.output
    for table in ["audit_log", "api_token", "portal_session", "webhook_secret", "alert"] {
      kept += try fixture.setup.database.rows("select t::text from \(table) t")
        .flatMap { $0.compactMap { $0 } }.joined(separator: "\n")
    }
    for operation in fixture.lists { kept += try fixture.send(operation).body }
    for secret in secrets {
      #expect(secret.utf8.count > 20)
      #expect(!kept.contains(secret.drop { $0 != "_" }.dropFirst()))
    }
  }

  @Test func `Without the scope nothing is done, and the scope alone is enough for everything`()
    throws
  {
    let fixture = try AdministrationFixture()
    var tokens: [String: String] = [:]
    for scope in Set((fixture.reads + fixture.writes).map(\.scope)) {
      let name = scope.replacing(":", with: "_")
      try fixture.setup.addToken(
        "mtr_no_\(name)",
        scopes: AdministrationFixture.allBut(scope).joined(separator: ","))
      try fixture.setup.addToken("mtr_only_\(name)", scopes: scope)
      tokens[scope] = name
    }
    let count = try fixture.setup.database.integer("select count(*) from audit_log")
    let requeue = AdministrationFixture.Operation(
      method: "POST", path: "/v1/dead-letters/requeue", scope: "admin", body: #"{"all":true}"#)
    for operation in fixture.reads + fixture.lists + fixture.writes + [requeue] {
      let name = try #require(tokens[operation.scope])
      #expect(try fixture.send(operation, token: nil).status == 401, "\(operation)")
      let refused = try fixture.send(operation, token: "mtr_no_\(name)")
      #expect(refused.status == 403 && refused["code"] == "forbidden", "\(operation)")
    }
    #expect(try fixture.setup.database.integer("select count(*) from audit_log") == count)
    for operation in fixture.reads + fixture.writes {
      let answer = try fixture.send(operation, token: "mtr_only_\(tokens[operation.scope]!)")
      #expect(answer.status == operation.status, "\(operation): \(answer.body)")
    }
  }

  @Test func `Another customer's things are as if they were not there`() throws {
    let fixture = try AdministrationFixture()
    try fixture.setup.addToken("mtr_two", scopes: "admin", customer: "cus_2")
    let count = try fixture.setup.database.integer("select count(*) from audit_log")
    let requeue = AdministrationFixture.Operation(
      method: "POST", path: "/v1/dead-letters/requeue", scope: "admin", body: #"{"all":true}"#)
    for operation in fixture.reads + fixture.writes + [requeue] {
      let answer = try fixture.send(operation, token: "mtr_two")
      #expect(answer.status == 404 && answer["code"] == "not_found", "\(operation): \(answer.body)")
      #expect(!answer.body.contains("cus_1"), "\(operation)")
    }
    #expect(try fixture.setup.database.integer("select count(*) from audit_log") == count)
    for operation in fixture.lists {
      let answer = try fixture.send(operation, token: "mtr_two")
      #expect(answer.status == 200 && !answer.body.contains("cus_1"), "\(operation)")
      let all = try fixture.send(operation)
      #expect(all.body.contains("cus_1"), "\(operation)")
    }
    #expect(try fixture.setup.get("/v1/licenses/lic_cus_2", token: "mtr_two").status == 200)
    let own = try fixture.setup.request(
      "POST", "/v1/licenses/lic_cus_2/suspend", token: "mtr_two")
    #expect(own.status == 200 && own["status"] == "suspended")
    // A customer sees what an alert says, but not where in the log its cause is.
    try fixture.setup.addToken("mtr_one", scopes: "webhooks:read", customer: "cus_1")
    let path = "/v1/alerts/\(fixture.alert)"
    #expect(try fixture.setup.get(path, token: "mtr_one").json["evidence"] == nil)
    #expect(try fixture.setup.get(path).json["evidence"] != nil)
  }

  @Test func `Hostile texts are refused or kept as they are`() throws {
    let fixture = try AdministrationFixture()
    let setup = fixture.setup
    let long = String(repeating: "x", count: 513)
    for operation in fixture.reads + fixture.writes {
      for (old, bad) in [
        ("cus_1", "cus%00"), ("lic_cus_1", long), ("\(fixture.endpoint)", long),
        ("\(fixture.delivery)", "99999999999999999999"), ("\(fixture.alert)", "1e3"),
      ] where operation.path.contains("/\(old)") {
        var hostile = operation
        hostile.path = operation.path.replacing("/\(old)", with: "/\(bad)")
        let answer = try fixture.send(hostile)
        #expect([400, 404].contains(answer.status), "\(hostile): \(answer.status)")
      }
      if !operation.body.isEmpty {
        for body in [
          "{", "[]", "null", #"{"nobody_reads_this":1}"#, #"{"name":"a\u0000b","plan":"\u0000"}"#,
          #"{"name":"a","name":"b"}"#, String(repeating: "[", count: 600),
        ] {
          var hostile = operation
          hostile.body = body
          let answer = try fixture.send(hostile)
          #expect(answer.status == 400, "\(hostile) \(body): \(answer.status) \(answer.body)")
        }
      }
    }
    let id = "a/b <script>alert('1')</script> \u{e9} ?#%"
    let path = id.utf8.map { String(format: "%%%02X", $0) }.joined()
    let body = try JSONSerialization.data(
      withJSONObject: ["customer_id": id, "name": "=HYPERLINK(\"http://evil.example\")"])
    let made = try setup.request(
      "POST", "/v1/customers", body: String(decoding: body, as: UTF8.self))
    #expect(made.status == 201 && made["customer_id"] == id, "\(made.body)")
    let location = try #require(made.headers["location"])
    #expect(try setup.get(location)["customer_id"] == id)
    #expect(try setup.get("/v1/customers/\(path)")["customer_id"] == id)
    let csv = try setup.get("/v1/customers?format=csv")
    #expect(csv.body.hasPrefix("customer_id,name,stripe_customer_id,created_at\r\n"))
    #expect(csv.body.contains("\"'=HYPERLINK("))
    #expect(setup.process.isRunning)
  }

  @Test
  func `A client that saw an older state is refused, and a repeated request is answered again`()
    throws
  {
    let fixture = try AdministrationFixture()
    let setup = fixture.setup
    for (path, patch) in [
      ("/v1/licenses/lic_cus_1", #"{"plan":"max"}"#), ("/v1/customers/cus_1", #"{"name":"N"}"#),
      ("/v1/webhook-endpoints/\(fixture.endpoint)", #"{"url":"https://example.com/n"}"#),
    ] {
      let seen = try #require(try setup.get(path).headers["etag"])
      let unchanged = try setup.get(path, headers: ["If-None-Match": seen])
      #expect(unchanged.status == 304)
      let type = ["Content-Type": "application/merge-patch+json", "If-Match": seen]
      let first = try setup.request("PATCH", path, body: patch, headers: type)
      #expect(first.status == 200 && first.headers["etag"] != seen, "\(first.body)")
      let second = try setup.request("PATCH", path, body: patch, headers: type)
      #expect(second.status == 412 && second["code"] == "changed_meanwhile")
      #expect(try setup.get(path).headers["etag"] == first.headers["etag"])
    }
    let key = ["Idempotency-Key": "k-1"]
    let body = #"{"name":"once","scopes":["usage:read"]}"#
    let first = try setup.request("POST", "/v1/tokens", body: body, headers: key)
    let again = try setup.request("POST", "/v1/tokens", body: body, headers: key)
    #expect(first.status == 201 && again.status == 201)
    #expect(first["token"] == again["token"] && first["token"].hasPrefix("mtr_"))
    #expect(again.headers["location"] == "/v1/tokens/" + first["token_id"])
    #expect(again.headers["cache-control"] == "no-store")
    #expect(again.headers["idempotent-replayed"] == "true")
    let made = try ["k-2", "k-2"].map {
      try setup.request(
        "POST", "/v1/customers", body: #"{"customer_id":"cus_once"}"#,
        headers: ["Idempotency-Key": $0])
    }
    #expect(made[1].headers["etag"] == made[0].headers["etag"] && made[0].status == 201)
    #expect(made[0].headers["etag"] != nil)
    let other = try setup.request(
      "POST", "/v1/tokens", body: #"{"name":"x","scopes":["admin"]}"#, headers: key)
    #expect(other.status == 422 && other["code"] == "idempotency_mismatch")
    #expect(
      try setup.database.integer("select count(*) from api_token where name = 'once'") == 1)
  }

  @Test
  func `Lists continue after their cursor without repeats, and a changed one is refused`() throws {
    let fixture = try AdministrationFixture()
    let setup = fixture.setup
    for i in 1...7 { try setup.addLicense("lic_page_\(i)", customer: "cus_page") }
    for (path, name) in [
      ("/v1/licenses?customer_id=cus_page", "license_id"), ("/v1/customers?", "customer_id"),
      ("/v1/audit?", "audit_id"), ("/v1/tokens?", "token_id"),
      ("/v1/webhook-deliveries?", "delivery_id"), ("/v1/alerts?", "alert_id"),
      ("/v1/webhook-endpoints?", "endpoint_id"), ("/v1/dead-letters?", "log_offset"),
    ] {
      let all = try setup.get(path + "&limit=1000").data.map { "\($0[name] ?? "")" }
      var pages: [String] = []
      var next: String? = ""
      while let cursor = next {
        let page = try setup.get(path + "&limit=2" + (cursor.isEmpty ? "" : "&cursor=\(cursor)"))
        #expect(page.status == 200, "\(path): \(page.body)")
        pages += page.data.map { "\($0[name] ?? "")" }
        next = page.json["next"] as? String
      }
      #expect(pages == all && Set(all).count == all.count && !all.isEmpty, "\(path)")
    }
    let cursor = try #require(try setup.get("/v1/licenses?limit=1").json["next"] as? String)
    for bad in [cursor + "x", String(cursor.dropFirst()), "null"] {
      let answer = try setup.get("/v1/licenses?limit=1&cursor=\(bad)")
      #expect(answer.status == 400 && answer["code"] == "bad_cursor")
    }
    #expect(try setup.get("/v1/customers?cursor=\(cursor)")["code"] == "bad_cursor")
  }
}

/// Lists of things that concern money before an invoice is made.
@Suite(.serialized)
struct UsageAttentionTests {
  @Test
  func `Licenses that will exceed a limit are listed, the furthest first, and others are not`()
    throws
  {
    let setup = try APISetup()
    for (license, customer, limit) in [
      ("lic_far", "cus_1", 1_000), ("lic_near", "cus_2", 50_000), ("lic_below", "cus_1", 900_000),
    ] {
      try setup.addLicense(license, customer: customer, limit: limit)
      // A thousand calls a day for eight weeks, so that every period ends far beyond a thousand.
      try setup.database.execute(
        """
        insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
        select '\(license)', 'api_calls', (now() at time zone 'UTC')::date - d, \(license == "lic_near" ? 9_000 : 1_000), 1, ''
        from generate_series(0, 56) d;
        insert into limit_state (license_id, meter, period_start, period_end, limit_quantity, thresholds, used, version)
        select '\(license)', 'api_calls', first_day, end_day, \(limit), '{80}',
          (select sum(quantity) from usage_day d where d.license_id = '\(license)' and d.day >= first_day), 1
        from (select date_trunc('month', now() at time zone 'UTC')::date as first_day,
          (date_trunc('month', now() at time zone 'UTC') + interval '1 month')::date as end_day) p
        on conflict do nothing
        """)
    }
    let answer = try setup.get("/v1/usage/projected-overages")
    #expect(answer.status == 200, "\(answer.body)")
    #expect(answer.data.map { $0["license_id"] as? String } == ["lic_near", "lic_far"])
    let first = try #require(answer.data.first)
    let used = try #require(first["used"] as? Int)
    let projected = try #require(first["projected_quantity"] as? Int)
    #expect(projected >= used && projected > 50_000)
    #expect(first["projected_overage"] as? Int == projected - 50_000)
    try setup.addToken("mtr_one", scopes: "usage:read", customer: "cus_1")
    let own = try setup.get("/v1/usage/projected-overages", token: "mtr_one")
    #expect(own.data.map { $0["license_id"] as? String } == ["lic_far"])
    let csv = try setup.get("/v1/usage/projected-overages?format=csv")
    #expect(csv.body.split(separator: "\r\n").count == 3)

    let page = try setup.get("/v1/usage/projected-overages?limit=1")
    #expect(page.data.map { $0["license_id"] as? String } == ["lic_near"])
    let cursor = try #require(page.json["next"] as? String)
    let rest = try setup.get("/v1/usage/projected-overages?limit=1&cursor=\(cursor)")
    #expect(rest.data.map { $0["license_id"] as? String } == ["lic_far"])
    #expect(rest.json["next"] is NSNull)
  }

  @Test func `Usage of unregistered licenses is listed with its days`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into usage_day (license_id, meter, day, quantity, event_count, dimensions)
      select l, 'api_calls', date '2026-03-01' + d, 5, 2, ''
      from unnest('{lic_1,lic_ghost_1,lic_ghost_2}'::text[]) l, generate_series(0, 1) d
      """)
    let page = try setup.get("/v1/usage/unregistered?limit=1")
    #expect(page.data.map { $0["license_id"] as? String } == ["lic_ghost_1"])
    #expect(page.data.first?["quantity"] as? Int == 10)
    #expect(page.data.first?["first_day"] as? String == "2026-03-01")
    let next = try #require(page.json["next"] as? String)
    let rest = try setup.get("/v1/usage/unregistered?limit=1&cursor=\(next)")
    #expect(rest.data.map { $0["license_id"] as? String } == ["lic_ghost_2"])
    #expect(rest.json["next"] is NSNull)
    let part = try setup.get(
      "/v1/usage/unregistered?from=2026-03-02T00:00:00Z&to=2026-03-03T00:00:00Z")
    #expect(part.data.map { $0["quantity"] as? Int } == [5, 5])
    #expect(try setup.get("/v1/usage/unregistered?from=2026-03-02T01:00:00Z").status == 400)
  }
}
