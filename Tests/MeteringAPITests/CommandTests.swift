import Foundation
import MeteringTestKit
import Testing

/// Compares `meterctl statement` and `meterctl export` with the API. Both must say the same.
@Suite(.serialized)
struct CommandTests {
  private func run(_ setup: APISetup, _ arguments: [String]) throws -> (Int32, String) {
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), arguments,
      environment: ["METER_DATABASE_URL": setup.database.url])
    let status = process.wait()
    try eventually("all is read") { process.outputEnded }
    return (status, process.output)
  }

  @Test func `an adjustment of 0 is refused for what is wrong with it`() throws {
    let setup = try APISetup()
    let (status, output) = try run(
      setup,
      [
        "adjust", "--license", "lic_1", "--period", "2025-01-01", "--quantity", "0", "--reason",
        "r",
      ])
    #expect(status != 0 && output.contains("--quantity must not be 0"), "\(output)")
    #expect(!output.contains("required"))
  }

  @Test func `one period is told as one`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.addUsage("lic_1", "2025-01-10 10:00Z", 120)
    try setup.database.execute("select usage_merge('{0}')")
    let until = ["--ending-before", "2025-02-01"]
    let (_, preview) = try run(setup, ["periods", "preview"] + until)
    #expect(preview.contains("1 period can be closed"), "\(preview)")
    let (status, output) = try run(setup, ["periods", "close"] + until)
    #expect(
      status == 0 && output.contains("1 period was closed, 0 were closed before"), "\(output)")
  }

  private func setup() throws -> APISetup {
    let setup = try APISetup()
    try setup.addLicense("lic_1", limit: 10)
    try setup.addLicense("lic_2", limit: nil)
    try setup.addLicense("lic_3", customer: "cus_2")
    for (license, day, quantity) in [
      ("lic_1", "2025-01-03", 12), ("lic_1", "2025-01-04", 5), ("lic_2", "2025-01-31", 7),
      ("lic_2", "2025-02-01", 90), ("lic_3", "2025-01-04", 1), ("=lic_4", "2025-01-04", 2),
    ] {
      try setup.database.execute(
        """
        insert into usage_pending values (1, 0, '\(license)', 'api_calls', '\(day) 10:00Z', 7, 9,
          \(quantity), 1, '[5,\(quantity),1]', '["domain","app.example.com",\(quantity),1]');
        select usage_merge('{0}')
        """)
    }
    return setup
  }

  @Test func `A statement is the same by the command and by the API`() throws {
    let setup = try setup()
    let path = "/v1/customers/cus_1/statements/2025-01"
    let arguments = ["statement", "--customer", "cus_1", "--month", "2025-01"]
    func compare() throws {
      let (status, output) = try run(setup, arguments + ["--json"])
      #expect(status == 0, "\(output)")
      let command = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? NSDictionary
      #expect(command == (try setup.get(path).json as NSDictionary), "\(output)")
      let lines = try run(setup, arguments + ["--csv"]).1
      #expect(lines == (try setup.get(path + "?format=csv").body))
      #expect(lines.contains("lic_1,api_calls") && lines.contains("17"), "\(lines)")
    }
    try compare()
    let closed = try setup.request(
      "POST", "/v1/periods/close",
      body: #"{"ending_before":"2025-02-01","force":true,"reason":"a test"}"#)
    #expect(closed.status == 200, "\(closed.body)")
    try compare()
    let shown = try run(setup, arguments).1
    #expect(shown.contains("statement of cus_1 for 2025-01: closed"), "\(shown)")
    #expect(try run(setup, ["statement", "--customer", "cus_9", "--month", "2025-01"]).0 == 3)
    #expect(try run(setup, ["statement", "--customer", "cus_1", "--month", "2025-1"]).0 == 2)
  }

  @Test func `The command closes one period by its own end, and both closes are recorded`() throws {
    let setup = try setup()
    // January is complete and February is not.
    try setup.database.execute(
      "insert into usage_progress (complete_through) values ('2025-02-10 00:00Z')")
    let close = ["periods", "close", "--json"]
    let refused = try run(setup, close + ["--ending-before", "2025-03-01"])
    #expect(refused.0 == 1 && refused.1.contains("lag"), "\(refused.1)")
    let one = try run(setup, close + ["--period", "lic_2:api_calls:2025-01-01"])
    #expect(one.0 == 0 && one.1.contains(#""closed": 1"#), "\(one.1)")
    let again = try run(setup, close + ["--period", "lic_2:api_calls:2025-01-01"])
    #expect(again.0 == 0 && again.1.contains(#""already_closed": 1"#), "\(again.1)")
    let later = try run(setup, close + ["--period", "lic_2:api_calls:2025-02-01"])
    #expect(later.0 == 1 && later.1.contains("lag"), "\(later.1)")
    #expect(try run(setup, close + ["--period", "lic_9:api_calls:2025-01-01"]).0 == 3)
    let other = ["--period", "lic_1:api_calls:2025-01-01", "--customer", "cus_2"]
    #expect(try run(setup, close + other).0 == 3)
    #expect(try run(setup, close).0 == 2)
    let all = try run(
      setup, close + ["--ending-before", "2025-03-01", "--force", "--reason", "the auditor asked"])
    #expect(all.0 == 0, "\(all.1)")
    #expect(
      try setup.database.rows(
        """
        select action, after ->> 'force', after ->> 'reason', after -> 'blockers' -> 0 ->> 'code',
          after ->> 'closed'
        from audit_log where actor_kind = 'operator' order by audit_id
        """) == [
          ["period.close", "false", nil, nil, "1"],
          ["periods.close", "true", "the auditor asked", "lag", nil],
          ["periods.closed", nil, nil, nil, "4"],
        ])
  }

  @Test func `The commands refuse a customer who does not exist, and a blank reason`() throws {
    let setup = try setup()
    for command in ["close", "preview"] {
      let found = try run(
        setup,
        ["periods", command, "--json", "--ending-before", "2025-02-01", "--customer", "cus_amce"])
      #expect(found.0 == 3, "\(command) \(found.1)")
    }
    let close = ["periods", "close", "--json", "--ending-before", "2025-02-01", "--force"]
    #expect(try run(setup, close + ["--reason", "  "]).0 == 2)
    let adjust = ["adjust", "--period", "lic_1:api_calls:2025-01-01", "--quantity", "1"]
    #expect(try run(setup, adjust + ["--reason", " "]).0 == 2)
    #expect(try setup.database.integer("select count(*) from usage_close") == 0)
    _ = try run(setup, close + ["--reason", "the auditor asked"])
    let nothing = try run(setup, close + ["--reason", "the auditor asked"])
    #expect(nothing.0 == 0 && nothing.1.contains(#""close_id": null"#), "\(nothing.1)")
    let early = ["adjust", "--period", "lic_1:api_calls:1990-01-01", "--quantity", "1"]
    #expect(try run(setup, early + ["--reason", "agreed"]).0 == 3)
  }

  @Test func `An export of usage has the lines of the API's CSV`() throws {
    let setup = try setup()
    let days = ["--from", "2025-01-01", "--to", "2025-02-01"]
    let range = "from=2025-01-01T00:00:00Z&to=2025-02-01T00:00:00Z"
    let questions: [([String], String)] = [
      ([], "&window=day"), (["--window", "total"], ""),
      (["--customer", "cus_1"], "&window=day&customer_id=cus_1"),
      (
        ["--license", "lic_2", "--meter", "api_calls"],
        "&window=day&license_id=lic_2&meter=api_calls"
      ),
    ]
    for (arguments, query) in questions {
      let (status, output) = try run(setup, ["export"] + days + arguments)
      let answer = try setup.get("/v1/usage?format=csv&\(range)\(query)")
      #expect(status == 0 && output == answer.body, "\(arguments): \(output) \(answer.body)")
      #expect(output.split(separator: "\r\n").count > 1)
    }
    // A value that a spreadsheet would run is neutralized in both.
    #expect(try run(setup, ["export"] + days).1.contains("'=lic_4"))
    #expect(try run(setup, ["export", "--from", "2025-02-01", "--to", "2025-01-01"]).0 == 2)
    let outside = ["export", "--from", "2024-01-01", "--to", "2024-02-01"]
    #expect(try run(setup, outside).1.split(separator: "\r\n").count == 1)
  }
}
