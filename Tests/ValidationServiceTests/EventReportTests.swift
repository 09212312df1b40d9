import Foundation
import Metering
import MeteringTestKit
import Testing

@testable import ValidationService

/// `POST /v1/events`, by which customers report usage themselves.
@Suite(.serialized) struct EventReportTests {
  @Test("Customers report usage of their own licenses, and of no others")
  func events() throws {
    let setup = try Setup()
    try setup.addLicense("lic_mine", customer: "cus_1")
    try setup.addLicense("lic_theirs", customer: "cus_2")
    let token = "mtr_0123456789abcdef"
    func addToken(_ token: String, _ scopes: String, _ customer: String) throws {
      try setup.database.execute(
        """
        insert into api_token (token_id, name, token_hash, scopes, customer_id)
        values ('tok_\(token.suffix(4))', 'n', sha256('\(token)'), '{\(scopes)}', \(customer))
        """)
    }
    try addToken(token, "usage:write", "'cus_1'")
    try addToken("mtr_scopeless", "usage:read", "'cus_1'")
    let time = UsageEventText.time(milliseconds: UsageEventText.now)
    func event(_ id: String, _ subject: String = "lic_mine", extra: String = "") -> String {
      #"{"specversion":"1.0","id":"\#(id)","source":"/shop","type":"license.usage.recorded","subject":"\#(subject)","time":"\#(time)"\#(extra),"data":{"quantity":3}}"#
    }
    func post(_ body: String, _ token: String = token) throws -> Setup.Answer {
      try setup.request(
        "POST", "/v1/events", body: body,
        headers: [
          "Authorization": "Bearer \(token)",
          "Content-Type": body.hasPrefix("[")
            ? "application/cloudevents-batch+json" : "application/cloudevents+json",
        ])
    }
    let one = try post(event("a", extra: #","producer":"eu-1","sequence":999999"#))
    #expect(one.status == 202 && one["accepted"] == "1", "\(one.body)")
    let mixed = try post(
      "[\(event("b")),\(event("c", extra: #","import":"x""#)),5,\(event("d").replacing("\"quantity\":3", with: "\"quantity\":-3"))]"
    )
    #expect(mixed.status == 202 && mixed["accepted"] == "1")
    let rejected = try #require(mixed.json["rejected"] as? [[String: Any]])
    #expect(rejected.map { $0["index"] as? Int } == [1, 2, 3])
    #expect(
      rejected.map { $0["reason"] as? String } == ["bad_data", "not_cloudevent", "bad_quantity"])
    func sent(secondsAgo: Int64) throws -> String? {
      let at = UsageEventText.time(milliseconds: UsageEventText.now - secondsAgo * 1_000)
      let answer = try post(event("t\(secondsAgo)").replacing(time, with: at))
      return (answer.json["rejected"] as? [[String: Any]])?.first?["reason"] as? String
    }
    // What is accepted can still wait in the spool without becoming a dead letter.
    #expect(try sent(secondsAgo: 35 * 86_400 - 1_800) == "too_old")
    #expect(try sent(secondsAgo: -3_598) == "too_far_ahead")
    let spaced = try setup.request(
      "POST", "/v1/events", body: event("s").replacing("\"quantity\":3", with: "\"quantity\":-3"),
      headers: [
        "Authorization": "bEARER   \(token)",
        "Content-Type": "Application/CloudEvents+JSON ; charset=utf-8",
      ])
    #expect(spaced.status == 202 && spaced["accepted"] == "0", "\(spaced.body)")
    #expect(try post(event("e", "lic_theirs")).status == 403)
    #expect(try post("[\(event("f")),\(event("g", "lic_unknown"))]").status == 403)
    #expect(try post(event("h"), "mtr_wrong").status == 401)
    #expect(try post(event("h"), "mtr_scopeless").status == 403)
    #expect(
      try post("[" + Array(repeating: event("i"), count: 1_001).joined(separator: ",") + "]").status
        == 400)
    let events = try setup.events(UsageLog.topic, atLeast: 2)
    #expect(Set(events.map { $0["id"] as? String }) == ["a", "b"])
    #expect(events.allSatisfy { $0["source"] as? String == "/customers/cus_1/shop" })
    #expect(events.allSatisfy { ($0["producer"] as? String)?.hasPrefix("eu-1-") == true })
    try setup.database.execute("update api_token set revoked_at = now()")
    try eventually("the token is refused", within: 5) { try post(event("j")).status == 401 }
  }

  @Test func `A batch of invented subjects costs few look-ups, and one of many own ones works`()
    throws
  {
    let ids = (0..<500).map { Identifier("lic_\($0)") }
    #expect(ValidationAPI.nextLookups(ids, isFirst: true).count == 10)
    #expect(ValidationAPI.nextLookups(ids, isFirst: false).count == 200)
    let setup = try Setup()
    let token = "mtr_0123456789abcdef"
    try setup.addToken(token)
    try setup.database.execute(
      """
      insert into license (license_id, customer_id, plan, features, domains, seats, issued_at,
        expires_at)
      select 'lic_' || i, 'cus_1', 'p', '{}', '{example.com}', 1, now(), now() + interval '9 days'
      from generate_series(0, 499) i
      """)
    let time = UsageEventText.time(milliseconds: UsageEventText.now)
    func post(_ prefix: String) throws -> Setup.Answer {
      let events = (0..<500).map {
        #"{"specversion":"1.0","id":"\#($0)","source":"/s","type":"license.usage.recorded","subject":"\#(prefix)\#($0)","time":"\#(time)","data":{"quantity":1}}"#
      }
      return try setup.request(
        "POST", "/v1/events", body: "[" + events.joined(separator: ",") + "]",
        headers: [
          "Authorization": "Bearer \(token)",
          "Content-Type": "application/cloudevents-batch+json",
        ])
    }
    let own = try post("lic_")
    #expect(own.status == 202 && own["accepted"] == "500", "\(own.body)")
    #expect(try post("invented_").status == 403)
  }
}
