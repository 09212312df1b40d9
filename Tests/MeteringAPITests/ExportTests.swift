import Foundation
import MeteringTestKit
import Testing

/// The export to Stripe by the API, against a server that behaves as Stripe documents.
@Suite(.serialized)
struct ExportTests {
  private func setup(_ stripe: FakeStripe, hours: Int) throws -> APISetup {
    try stripe.addMeter()
    let setup = try APISetup(environment: stripe.environment)
    for customer in ["cus_1", "cus_2"] {
      try setup.addLicense("lic_\(customer)", customer: customer)
      let id = try stripe.addCustomer()
      try setup.database.execute(
        "update customer set stripe_customer_id = '\(id)' where customer_id = '\(customer)'")
      try setup.database.execute(
        """
        insert into usage_pending (log_epoch, partition, license_id, meter, hour, first_offset,
          last_offset, quantity, event_count, minutes, dimensions)
        select 1, 0, 'lic_\(customer)', 'api_calls',
          date_trunc('hour', now()) - n * interval '1 hour', 0, 0, 10, 1, '', ''
        from generate_series(1, \(hours)) n
        """)
    }
    return setup
  }

  private func export(
    _ setup: APISetup, _ body: String = #"{"mode":"sum"}"#, token: String = APISetup.adminToken,
    key: String? = nil
  ) throws -> APISetup.Answer {
    try setup.request(
      "POST", "/v1/exports/stripe", token: token, body: body,
      headers: key.map { ["Idempotency-Key": $0] } ?? [:])
  }

  @Test func `An export sends complete hours once, and the list says where each stands`() throws {
    let stripe = try FakeStripe()
    let setup = try setup(stripe, hours: 3)
    let done = try export(setup, key: "k1")
    #expect(done.status == 200 && done["status"] == "finished", "\(done.body)")
    #expect(done["planned"] == "6" && done["sent"] == "6" && done["planned_quantity"] == "60")
    #expect(try stripe.total() == 60)
    let repeated = try export(setup, key: "k1")
    #expect(repeated.status == 200 && repeated.headers["idempotent-replayed"] == "true")
    #expect(try export(setup, #"{"mode":"replace"}"#, key: "k1").status == 422)
    #expect(try export(setup)["planned"] == "0" && stripe.requests() == 6)

    let first = try setup.get("/v1/exports?limit=4")
    #expect(first.data.count == 4 && first.data[0]["status"] as? String == "sent")
    #expect(first.data[0]["sent_quantity"] as? Int == 10)
    let cursor = first["next"]
    let rest = try setup.get("/v1/exports?limit=4&cursor=\(cursor)")
    #expect(rest.data.count == 2 && rest.json["next"] is NSNull)
    let ids = (first.data + rest.data).compactMap { $0["identifier"] as? String }
    #expect(Set(ids).count == 6)
    let csv = try setup.get("/v1/exports?format=csv&customer_id=cus_1")
    #expect(csv.body.split(separator: "\r\n").count == 4, "\(csv.body)")
    #expect(try setup.get("/v1/exports?status=refused").data.isEmpty)
    #expect(try setup.get("/v1/exports?status=nothing").status == 400)

    let audited = try setup.get("/v1/audit?action=exports.stripe").data
    #expect(audited.count == 2 && audited[0]["actor_kind"] as? String == "token")
  }

  @Test func `Only the vendor exports, and a customer sees what is its own`() throws {
    let stripe = try FakeStripe()
    let setup = try setup(stripe, hours: 1)
    try setup.addToken("mtr_c1", scopes: "billing:write", customer: "cus_1")
    try setup.addToken("mtr_read", scopes: "billing:read")
    #expect(try export(setup, token: "mtr_c1").status == 404)
    #expect(try export(setup, token: "mtr_read").status == 403)
    #expect(try export(setup).status == 200)
    let own = try setup.get("/v1/exports", token: "mtr_c1").data
    #expect(own.map { $0["customer_id"] as? String } == ["cus_1"])
    #expect(try setup.get("/v1/exports?customer_id=cus_2", token: "mtr_c1").status == 404)
    for body in [
      "{}", #"{"mode":"all"}"#, #"{"mode":"sum","through":"soon"}"#, #"{"mode":"sum","x":1}"#,
    ] {
      #expect(try export(setup, body).status == 400, "\(body)")
    }
  }

  @Test func `Without a key, with a wrong one, and while numbers are missing, the answer says why`()
    throws
  {
    let without = try APISetup()
    let missing = try export(without)
    #expect(missing.status == 503 && missing["code"] == "no_stripe", "\(missing.body)")
    let stripe = try FakeStripe()
    let setup = try setup(stripe, hours: 1)
    try stripe.control(
      "faults", #"[{"fault":"status","status":401,"message":"Invalid: (key)","count":9}]"#)
    let refused = try export(setup)
    #expect(refused.status == 502 && refused["code"] == "stripe_failed", "\(refused.body)")
    #expect(
      !refused.body.contains(FakeStripe.key) && !setup.process.output.contains(FakeStripe.key))
    try setup.database.execute(
      """
      insert into producer_report (consumer_group, topic, producer, accepted, pending, dropped,
        final, reported_at, log_epoch, judged_at)
      values ('usage-aggregator', 'license.usage.v1', 'p', 10, 0, 0, true, now(), 1, now())
      """)
    let blocked = try export(setup)
    let blockers = blocked.json["blockers"] as? [[String: String]]
    #expect(blocked.status == 409 && blockers?.first?["code"] == "missing", "\(blocked.body)")
  }

  @Test func `A service that dies in the middle sends the rest when it runs again`() throws {
    let stripe = try FakeStripe()
    let setup = try setup(stripe, hours: 40)
    try stripe.control("set", #"{"latency":0.02}"#)
    let socket = try #require(TCP.connect(port: setup.port))
    let body = #"{"mode":"sum"}"#
    let head =
      "POST /v1/exports/stripe HTTP/1.1\r\nHost: h\r\n"
      + "Authorization: Bearer \(APISetup.adminToken)\r\n"
      + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
    _ = TCP.write(socket, Array((head + body).utf8))
    try stripe.control("wait", #"{"requests":10}"#)
    setup.process.killNow()
    close(socket)
    #expect(try stripe.total() < 800)
    try setup.restart()
    try eventually("the rest is sent; \(setup.process.output)") {
      try setup.database.rows("select 1 from stripe_export where status <> 'sent'").isEmpty
    }
    #expect(try stripe.total() == 800)
  }
}
