import Foundation
import MeteringTestKit
import Testing

/// Tests `meterctl license update` together with the service, whose answers change.
@Suite(.serialized)
struct LicenseUpdateTests {
  private func meterctl(_ setup: Setup, _ arguments: [String]) throws -> (Int32, String) {
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), ["license", "update"] + arguments,
      environment: setup.environment)
    let status = process.wait()
    try eventually("all is read") { process.outputEnded }
    return (status, process.output)
  }

  @Test("A change takes effect within a second, and what it does not name stays")
  func changes() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.database.execute(
      "insert into license_limit values ('lic_1', 'exports', 7); update license set issued_at = '2026-01-01 00:00:00.123456Z'"
    )
    #expect(try setup.validate("lic_1")["plan"] == "professional")
    let (status, output) = try meterctl(
      setup,
      [
        "lic_1", "--plan", "enterprise", "--limit", "apiCalls=60000", "--seats", "12",
        "--overage", "allow", "--threshold", "50", "--threshold", "90", "--anchor-day", "15",
        "--feature", "sso", "--feature", "analytics", "--expires", "2031-01-01", "--json",
      ])
    #expect(status == 0, "\(output)")
    let shown = try #require(
      JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any], "\(output)")
    #expect(shown["plan"] as? String == "enterprise" && shown["seats"] as? Int == 12)
    #expect(shown["limits"] as? [String: Int] == ["api_calls": 60_000, "exports": 7])
    #expect(shown["alert_thresholds"] as? [Int] == [50, 90])
    #expect(shown["billing_anchor_day"] as? Int == 15)
    #expect(shown["domains"] as? [String] == ["example.com", "*.example.org"])
    #expect(
      try setup.database.rows(
        "select to_char(issued_at at time zone 'UTC', 'HH24:MI:SS.US') || overage_policy from license"
      ) == [["00:00:00.123456allow"]])
    try eventually("the service knows", within: 5) {
      try setup.validate("lic_1")["plan"] == "enterprise"
    }
    let answer = try setup.validate("lic_1")
    #expect(answer.json["features"] as? [String] == ["sso", "analytics"])
    #expect(
      answer.json["limits"] as? [String: Int]
        == ["apiCalls": 60_000, "exports": 7, "seats": 12])
    #expect(answer["expiresAt"] == "2031-01-01T00:00:00.000Z")
    #expect(
      try meterctl(
        setup,
        [
          "lic_1", "--limit", "exports=none", "--seats", "none", "--no-features",
          "--no-thresholds", "--trial", "--domain", "other.example",
        ]
      ).0 == 0)
    try eventually("the domain is another", within: 5) {
      try setup.validate("lic_1", "other.example")["code"] == "valid"
    }
    let then = try setup.validate("lic_1", "other.example")
    #expect(then.json["limits"] as? [String: Int] == ["apiCalls": 60_000])
    #expect((then.json["features"] as? [String])?.isEmpty == true)
    #expect(try setup.validate("lic_1")["code"] == "domain_mismatch")
    let updated = "select updated_at::text from license"
    let before = try setup.database.rows(updated)
    let (again, says) = try meterctl(setup, ["lic_1", "--plan", "enterprise"])
    #expect(again == 0 && says.contains("already has these terms"))
    #expect(try setup.database.rows(updated) == before)
  }

  @Test("An update that an import would refuse is refused, and nothing is changed")
  func refusals() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    let row = "select row_to_json(l)::text from license l"
    let before = try setup.database.rows(row)
    for (arguments, code, says) in [
      (["lic_1", "--domain", "co.uk"], 3, "public suffix"),
      (["lic_1", "--plan", ""], 3, "plan"),
      (["lic_1", "--expires", "2020-01-01"], 3, "later than issued_at"),
      (["lic_1", "--anchor-day", "32"], 3, "billing_anchor_day"),
      (["lic_1", "--threshold", "0"], 3, "alert_thresholds"),
      (["lic_1", "--limit", "Bad-Name=1"], 3, "meter"),
      (["lic_nobody", "--plan", "p"], 3, "no such license"),
      (["lic_1"], 2, "name at least one change"),
      (["lic_1", "--limit", "apiCalls"], 2, "limit"),
      (["lic_1", "--limit", "apiCalls=1", "--limit", "api_calls=2"], 2, "twice"),
      (["lic_1", "--feature", "a", "--no-features"], 2, "--no-features"),
      (["lic_1", "--overage", "bill"], 2, "overage"),
    ] as [([String], Int32, String)] {
      let (status, output) = try meterctl(setup, arguments)
      #expect(status == code && output.contains(says), "\(arguments): \(output)")
    }
    #expect(try setup.database.rows(row) == before)
  }
}
