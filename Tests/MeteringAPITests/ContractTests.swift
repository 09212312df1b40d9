import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Sentences of the contract that hold for every endpoint.
@Suite(.serialized)
struct ContractTests {
  private func add(_ setup: APISetup, _ license: String, _ hour: String) throws {
    _ = try setup.database.rows(
      """
      insert into usage_pending values (1, 0, $1, 'api_calls', $2::timestamptz, 0, 0, 12, 1,
        '[5,12,1]', '')
      """, [.text(license), .text(hour)])
    _ = try setup.database.rows("select usage_merge('{0}')")
  }

  @Test func `A customer's token gets one answer for another's license and for none`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try setup.addLicense("lic_2", customer: "cus_2")
    try setup.addToken("mtr_c1", scopes: "usage:read,billing:read,licenses:read", customer: "cus_1")
    let range = "from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z"
    for path in [
      "/v1/licenses/#/usage/current", "/v1/usage/events?license_id=#&meter=api_calls&\(range)",
      "/v1/licenses/#", "/v1/usage?license_id=#&\(range)", "/v1/periods?license_id=#",
      "/v1/adjustments?license_id=#",
    ] {
      let answers = try ["lic_2", "lic_9"].map { id in
        try setup.get(path.replacingOccurrences(of: "#", with: id), token: "mtr_c1")
      }
      #expect(answers[0].status == answers[1].status, "\(path)")
      #expect(answers[0].body == answers[1].body, "\(path)")
    }
    let own = try setup.get("/v1/licenses/lic_1/usage/current", token: "mtr_c1")
    #expect(own.status == 200 && own["missing"] == "0", "\(own.body)")
  }

  @Test func `A range that is over keeps its entity tag while the log is read on`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try add(setup, "lic_1", "2026-01-10 10:00Z")
    func complete(_ time: String) throws {
      try setup.database.execute(
        """
        insert into usage_progress (complete_through) values ('\(time)')
        on conflict (only_row) do update set complete_through = excluded.complete_through
        """)
    }
    let over = "/v1/usage?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
    let running = "/v1/usage?from=2026-01-01T00:00:00Z&to=2026-05-01T00:00:00Z"
    try complete("2026-03-01 00:00Z")
    let tags = try [over, running].map { path in
      try #require(try setup.get(path).headers["etag"])
    }
    try complete("2026-04-01 00:00Z")
    #expect(try setup.get(over, headers: ["If-None-Match": tags[0]]).status == 304)
    let more = try setup.get(running, headers: ["If-None-Match": tags[1]])
    #expect(more.status == 200 && more["complete_through"] == "2026-04-01T00:00:00Z")
  }

  @Test func `Numbers are strings, and answers are CSV, wherever a client asks for it`() throws {
    let setup = try APISetup(environment: ["METER_CLOSE_GRACE": "0s"])
    try setup.addLicense("lic_1")
    try add(setup, "lic_1", "2025-01-10 10:00Z")
    try setup.database.execute("insert into usage_progress (complete_through) values (now())")
    let preview = try setup.get(
      "/v1/periods/close-preview?ending_before=2025-02-01&numbers=string")
    let meters = preview.json["by_meter"] as? [[String: Any]] ?? []
    #expect(meters.first?["quantity"] as? String == "12", "\(preview.body)")
    let path = "/v1/customers/cus_1/statements/2025-01"
    let statement = try setup.get(path + "?numbers=string")
    let lines = statement.json["lines"] as? [[String: Any]] ?? []
    #expect(lines.first?["billable_quantity"] as? String == "12", "\(statement.body)")
    #expect(lines.first?["event_count"] as? Int == 1)
    let plain = try setup.get(path).json["lines"] as? [[String: Any]] ?? []
    #expect(plain.first?["billable_quantity"] as? Int == 12)
    let current = try setup.get("/v1/licenses/lic_1/usage/current?format=csv")
    #expect(current.headers["content-type"]?.hasPrefix("text/csv") == true)
    #expect(
      current.body.hasPrefix(
        "license_id,customer_id,meter,period_start,period_end,used,limit,remaining,"),
      "\(current.body)")
    #expect(current.body.components(separatedBy: "\r\n").count == 3, "\(current.body)")
  }

  @Test func `Numbers of single resources are strings where a client asks for it`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into alert (type, license_id, customer_id, occurred_at, data, dedupe_key)
      values ('license.limit_exceeded', 'lic_1', 'cus_1', now(),
        '{"license_id":"lic_1","limit":50000,"used":9223372036854775807,"threshold_percent":100}', 'd')
      """)
    let text = "?numbers=string"
    let read = try setup.get("/v1/licenses/lic_1" + text)
    let plain = try setup.get("/v1/licenses/lic_1")
    let strings = ["apiCalls": "50000", "seats": "10"]
    #expect(read.json["limits"] as? [String: String] == strings, "\(read.body)")
    #expect((plain.json["limits"] as? [String: Int])?["apiCalls"] == 50_000)
    let listed = try setup.get("/v1/licenses" + text).data.first
    #expect(listed?["limits"] as? [String: String] == strings)
    // What was read with strings is changed with or without them.
    for (patch, query) in [(#"{"plan":"a"}"#, ""), (#"{"plan":"b"}"#, text)] {
      let tag = try #require(try setup.get("/v1/licenses/lic_1" + text).headers["etag"])
      let patched = try setup.request(
        "PATCH", "/v1/licenses/lic_1" + query, body: patch, headers: ["If-Match": tag])
      #expect(patched.status == 200, "\(patched.body)")
      #expect((patched.json["limits"] is [String: String]) == !query.isEmpty)
    }
    let alert = try #require(try setup.get("/v1/alerts" + text).data.first)
    let one = try setup.get("/v1/alerts/\(alert["alert_id"] ?? "")" + text)
    for found in [alert, one.json] {
      let data = found["data"] as? [String: Any] ?? [:]
      #expect(data["used"] as? String == "9223372036854775807", "\(one.body)")
      #expect(data["limit"] as? String == "50000" && data["threshold_percent"] as? Int == 100)
    }
    let adjusted = try setup.request(
      "POST", "/v1/adjustments" + text,
      body: #"{"license_id":"lic_1","meter":"api_calls","quantity":-20,"reason":"agreed","#
        + #""applies_to_period_start":"2026-01-01"}"#)
    #expect(adjusted.status == 201 && adjusted.json["quantity"] as? String == "-20")
    let reversed = try setup.request(
      "POST", "/v1/adjustments/\(adjusted["adjustment_id"])/reverse" + text)
    #expect(reversed.json["quantity"] as? String == "20", "\(reversed.body)")
    let audited = try setup.get("/v1/audit?action=adjustment.create").data.first
    #expect((audited?["after"] as? [String: Any])?["quantity"] as? Int == -20)
    for path in ["status", "customers/cus_1", "tokens/tok_mtr_admin"] {
      #expect(try setup.get("/v1/" + path + text).status == 200, "\(path)")
      #expect(try setup.get("/v1/" + path + "?numbers=roman").status == 400, "\(path)")
    }
  }

  @Test func `A value or a name that a path does not know is refused, and the answer names it`()
    throws
  {
    let setup = try APISetup()
    let wrong = [
      ("alerts?type=bad", "type"), ("alerts?type=license.expired&kind=x", "kind"),
      ("dead-letters?reason=bad", "reason"), ("dead-letters?status=closed", "status"),
      ("dead-letters?partition=-1", "partition"), ("periods?status=late", "status"),
      ("periods?ending_before=soon", "ending_before"), ("adjustments?kind=auto", "kind"),
      ("adjustments?meter=Bad", "meter"), ("exports?status=lost", "status"),
      ("exports?meter=a-b", "meter"), ("licenses?status=gone", "status"),
      ("licenses?order=plan", "order"), ("customers?numbers=roman", "numbers"),
      ("webhook-endpoints?status=failing", "status"),
      ("webhook-deliveries?status=lost", "status"), ("webhook-deliveries?alert_id=a", "alert_id"),
      (
        "usage/events?license_id=l&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&meter=%20",
        "meter"
      ),
      ("events/e1?numbers=roman", "numbers"), ("audit?format=xml", "format"),
      ("status?verbose=1", "verbose"), ("usage/unregistered?from=yesterday", "from"),
      ("usage/projected-overages?limit=0", "limit"),
    ]
    for (path, parameter) in wrong {
      let answer = try setup.get("/v1/" + path)
      #expect(answer.status == 400 && answer["code"] == "bad_request", "\(path): \(answer.body)")
      let errors = answer.json["errors"] as? [[String: Any]] ?? []
      #expect(errors.map { $0["parameter"] as? String } == [parameter], "\(path): \(answer.body)")
    }
    for path in [
      "adjustments?x=1", "adjustments/a/reverse?x=1", "periods/close?x=1",
      "periods/lic:api_calls:2026-01-01/close?x=1", "exports/stripe?x=1",
      "dead-letters/requeue?x=1", "licenses?x=1", "customers?x=1", "tokens?x=1",
    ] {
      let answer = try setup.request("POST", "/v1/" + path, body: "{}")
      #expect(
        answer.status == 400 && answer.body.contains(#""parameter":"x""#), "\(path): \(answer.body)"
      )
    }
    let requeue = try setup.request(
      "POST", "/v1/dead-letters/requeue", body: #"{"reason":"bad"}"#)
    #expect(requeue.status == 400 && requeue.body.contains(#""parameter":"reason""#))
  }

  @Test func `A revoked token is refused at the next request`() throws {
    let setup = try APISetup()
    try setup.addToken("mtr_read", scopes: "usage:read")
    let path = "/v1/usage?range=this_month"
    #expect(try setup.get(path, token: "mtr_read").status == 200)
    #expect(try setup.request("DELETE", "/v1/tokens/tok_mtr_read").status == 204)
    #expect(try setup.get(path, token: "mtr_read").status == 401)
    // A token that another process revokes is refused within a moment.
    try setup.addToken("mtr_other", scopes: "usage:read")
    #expect(try setup.get(path, token: "mtr_other").status == 200)
    try setup.database.execute(
      "update api_token set revoked_at = now() where token_id = 'tok_mtr_other'")
    try eventually("it is refused") { try setup.get(path, token: "mtr_other").status == 401 }
  }

  @Test func `A refusal spells the member as the body does`() throws {
    let setup = try APISetup()
    let refused = try setup.request("POST", "/v1/customers", body: #"{"name":"a"}"#)
    #expect(refused["detail"] == "customer_id: is missing.", "\(refused.body)")
  }
}
