import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Compares `GET /v1/usage` with rows that are partly merged and partly pending.
@Suite(.serialized)
struct UsageTests {
  private func merge(_ setup: APISetup) throws {
    _ = try setup.database.rows("select usage_merge('{0}')")
    _ = try setup.database.rows("select usage_totals_make(1000)")
    _ = try setup.database.rows("select usage_fold(1000)")
  }

  private func quantities(_ answer: APISetup.Answer) -> [Int] {
    answer.data.compactMap { $0["quantity"] as? Int }
  }

  /// The date that many days ago, such as `2026-11-20`.
  private func day(_ ago: Int) -> String {
    String(
      ISO8601DateFormatter().string(from: Date(timeIntervalSinceNow: -86_400 * Double(ago)))
        .prefix(10))
  }

  @Test func `Windows, groups, zones and filters add up the same rows, merged or pending`() throws {
    let setup = try APISetup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try setup.addLicense("lic_2", customer: "cus_2")
    let (a, b) = (day(3), day(2))
    try setup.addUsage("lic_1", "\(a)T22:30:00Z", 1)
    try setup.addUsage("lic_1", "\(a)T23:59:00Z", 2)
    try setup.addUsage("lic_1", "\(b)T00:00:00Z", 4)
    try setup.addUsage("lic_2", "\(b)T10:15:00Z", 8, domain: "other.example")
    try setup.addUsage("lic_none", "\(b)T10:16:00Z", 16, meter: "seats")
    let range = "from=\(a)T00:00:00Z&to=\(day(1))T00:00:00Z"
    for round in 0..<2 {
      let total = try setup.get("/v1/usage?\(range)")
      #expect(total.status == 200, "\(total.body)")
      #expect(quantities(total) == [7, 8, 16], "round \(round): \(total.body)")
      #expect(total.data.first?["license_id"] as? String == "lic_1")
      #expect(total.data.first?["customer_id"] as? String == "cus_1")
      #expect(total.data.last?["customer_id"] is NSNull)
      #expect(
        total["from"] == "\(a)T00:00:00Z" && total["missing"] == "0" && total["next"] == "<null>")
      let days = try setup.get("/v1/usage?\(range)&license_id=lic_1&window=day")
      #expect(quantities(days) == [3, 4])
      #expect(days.data.first?["window_start"] as? String == "\(a)T00:00:00Z")
      #expect(days.data.first?["window_end"] as? String == "\(b)T00:00:00Z")
      let hours = try setup.get("/v1/usage?\(range)&license_id=lic_1&window=hour")
      #expect(quantities(hours) == [1, 2, 4])
      let minutes = try setup.get(
        "/v1/usage?\(range)&license_id=lic_1&license_id=lic_2&window=minute")
      #expect(quantities(minutes) == [1, 2, 4, 8])
      #expect(minutes.data.last?["window_start"] as? String == "\(b)T10:15:00Z")
      // Half past ten in the evening of UTC is four in the morning of the next day in India.
      let india = "from=\(a)T18:30:00Z&to=\(b)T18:30:00Z&window=day&time_zone=Asia/Kolkata"
      #expect(quantities(try setup.get("/v1/usage?\(india)&group_by=license")) == [7, 8, 16])
      let edge = "from=\(a)T22:31:00Z&to=\(b)T10:16:00Z"
      #expect(quantities(try setup.get("/v1/usage?\(edge)")) == [6, 8])
      let customers = try setup.get("/v1/usage?\(range)&group_by=customer")
      #expect(quantities(customers) == [16, 7, 8])
      #expect(
        Set(customers.data[1].keys) == [
          "customer_id", "window_start", "window_end", "quantity", "event_count",
        ])
      #expect(quantities(try setup.get("/v1/usage?\(range)&group_by=meter")) == [15, 16])
      #expect(
        quantities(try setup.get("/v1/usage?\(range)&customer_id=cus_2&group_by=meter")) == [8])
      #expect(quantities(try setup.get("/v1/usage?\(range)&meter=seats")) == [16])
      let domains = try setup.get("/v1/usage?\(range)&group_by=domain&meter=api_calls")
      #expect(domains.data.map { $0["domain"] as? String } == ["example.com", "other.example"])
      #expect(quantities(domains) == [7, 8])
      let periods = try setup.get("/v1/usage?\(range)&window=period&customer_id=cus_1")
      #expect(quantities(periods).reduce(0, +) == 7)
      let current = try setup.get("/v1/usage?range=current_period&license_id=lic_1")
      let last = try setup.get("/v1/usage?range=last_period&license_id=lic_1")
      #expect((quantities(current) + quantities(last)).reduce(0, +) == 7)
      #expect(try setup.get("/v1/usage?range=last_7d").status == 200)
      try merge(setup)
    }
  }

  @Test func `The largest groups, empty windows, the range before, strings and CSV are answered`()
    throws
  {
    let setup = try APISetup()
    let (a, b) = (day(3), day(2))
    for (license, quantity) in [("lic_a", 5), ("lic_b", 50), ("lic_c", 1), ("=cmd", 2)] {
      try setup.addLicense(license)
      try setup.addUsage(license, "\(b)T10:00:00Z", quantity)
    }
    try setup.addUsage("lic_b", "\(a)T10:00:00Z", 3)
    try merge(setup)
    let range = "from=\(b)T00:00:00Z&to=\(day(1))T00:00:00Z"
    let top = try setup.get("/v1/usage?\(range)&top=2&compare=previous")
    #expect(
      top.data.map { $0["license_id"] as? String } == ["lic_b", "lic_a", "(other)"], "\(top.body)")
    #expect(quantities(top) == [50, 5, 3])
    #expect(top.data.map { $0["previous_quantity"] as? Int } == [3, 0, 0])
    let filled = try setup.get("/v1/usage?\(range)&license_id=lic_c&window=hour&fill=zero")
    #expect(filled.data.count == 24 && quantities(filled).reduce(0, +) == 1, "\(filled.body)")
    let unused = try setup.get("/v1/usage?\(range)&license_id=lic_z&window=hour&fill=zero")
    #expect(unused.data.count == 24 && quantities(unused) == Array(repeating: 0, count: 24))
    let strings = try setup.get("/v1/usage?\(range)&license_id=lic_b&numbers=string")
    #expect(strings.data.first?["quantity"] as? String == "50")
    let csv = try setup.get("/v1/usage?\(range)&format=csv&meter=api_calls")
    #expect(csv.headers["content-disposition"] == "attachment; filename=\"usage.csv\"")
    let lines = csv.body.components(separatedBy: "\r\n")
    #expect(
      lines.first == "license_id,customer_id,meter,window_start,window_end,quantity,event_count")
    #expect(lines.count == 6 && lines[1].hasPrefix("'=cmd,cus_1,api_calls,"), "\(csv.body)")
    #expect(try setup.get("/v1/usage?\(range)", headers: ["Accept": "text/csv"]).body == csv.body)
  }

  @Test
  func `A page continues where the one before ended while counts grow, and a tag is sent once`()
    throws
  {
    let setup = try APISetup()
    let b = day(2)
    for i in 0..<5 { try setup.addUsage("lic_\(i)", "\(b)T10:00:00Z", 1) }
    let path = "/v1/usage?from=\(b)T00:00:00Z&to=\(day(1))T00:00:00Z&limit=2"
    var found: [String] = []
    var next: String?
    repeat {
      let answer = try setup.get(path + (next.map { "&cursor=\($0)" } ?? ""))
      #expect(answer.status == 200, "\(answer.body)")
      found += answer.data.compactMap { $0["license_id"] as? String }
      next = answer.json["next"] as? String
      try setup.addUsage("lic_0", "\(b)T10:00:00Z", 1_000)
    } while next != nil
    #expect(found == (0..<5).map { "lic_\($0)" })
    let cursor = try #require(try setup.get(path).json["next"] as? String)
    #expect(try setup.get(path + "&cursor=A\(cursor)")["code"] == "bad_cursor")
    #expect(try setup.get(path + "&meter=seats&cursor=\(cursor)")["code"] == "bad_cursor")
    let tag = try #require(try setup.get(path).headers["etag"])
    #expect(try setup.get(path, headers: ["If-None-Match": tag]).status == 304)
    let many = path.replacingOccurrences(of: "limit=2", with: "limit=1000")
    let gzip = try setup.get(
      many + "&fill=zero&window=hour", headers: ["Accept-Encoding": "gzip"])
    #expect(gzip.headers["content-encoding"] == "gzip" && gzip.headers["vary"] == "accept-encoding")
    for (accepted, expected) in [
      ("gzip, deflate", "gzip"), ("deflate, GZIP;q=0.5, br", "gzip"), ("*", "gzip"),
      ("deflate", nil), ("gzip;q=0, *", nil), ("identity", nil),
    ] {
      let answer = try setup.get(
        many + "&fill=zero&window=hour", headers: ["Accept-Encoding": accepted])
      #expect(answer.headers["content-encoding"] == expected, "\(accepted)")
      #expect(answer.headers["vary"] == "accept-encoding", "\(accepted)")
    }
    try setup.addUsage("lic_0", "\(b)T10:00:00Z", 1)
    #expect(try setup.get(path, headers: ["If-None-Match": tag]).status == 200)
  }

  @Test func `A license may be called by dots`() throws {
    let setup = try APISetup()
    for (id, path) in [(".", "%2E"), ("..", "%2e%2E")] {
      try setup.addLicense(id)
      #expect(try setup.get("/v1/licenses/\(path)")["license_id"] == id)
      #expect(try setup.get("/v1/licenses/\(path)/usage/current").status == 200)
    }
    #expect(try setup.get("/v1/licenses/..").status == 404)
  }

  @Test func `What cannot be answered, is absurd, or is another customer's, is refused in words`()
    throws
  {
    let setup = try APISetup()
    try setup.addLicense("lic_1", customer: "cus_1")
    try setup.addLicense("lic_2", customer: "cus_2")
    try setup.addToken("mtr_c1", scopes: "usage:read", customer: "cus_1")
    func refused(_ query: String, _ parameter: String, _ code: String = "bad_request") throws {
      let answer = try setup.get("/v1/usage?" + query)
      #expect(answer.status == 400 && answer["code"] == code, "\(query): \(answer.body)")
      let errors = answer.json["errors"] as? [[String: Any]] ?? []
      #expect(
        errors.contains { $0["parameter"] as? String == parameter }, "\(query): \(answer.body)")
    }
    let whole = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z"
    try refused("", "from")
    try refused("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to")
    try refused("from=2026-02-01&to=2026-03-01T00:00:00Z", "from")
    try refused(whole + "&range=last_7d", "from")
    try refused(whole + "&from=2026-01-01T00:00:00Z", "from")
    for zone in ["Mars/Phobos", "CET", "';drop table license--", "../../etc/passwd"] {
      try refused(
        whole + "&time_zone="
          + (zone.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""), "time_zone")
    }
    try refused(whole + "&window=week", "window")
    try refused(whole + "&group_by=license,domain", "group_by")
    try refused(whole + "&group_by=domain&window=hour", "window")
    try refused(whole + "&top=0", "top")
    try refused(whole + "&limit=10001", "limit")
    try refused(whole + "&limit=+5", "limit")
    try refused(whole + "&surprise=1", "surprise")
    try refused(whole + "&meter=Api-Calls", "meter")
    try refused(whole + "&meter=api_calls&meter=%C3%A4", "meter")
    let many = (0...100).map { "&license_id=l\($0)" }.joined()
    try refused(whole + many, "license_id")
    try refused(
      "from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z&window=day", "window",
      "range_not_answerable")
    try refused("from=2020-01-01T01:00:00Z&to=2020-02-01T00:00:00Z", "from", "range_not_answerable")
    try refused(
      "from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00.001Z", "to", "range_not_answerable")
    let old = try setup.get(
      "/v1/usage?from=2020-01-01T00:00:00Z&to=2020-01-03T00:00:00Z&window=hour")
    #expect(old["finest_window"] == "day", "\(old.body)")
    #expect(
      try setup.get("/v1/usage?from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z").status == 200)
    #expect(try setup.get("/v1/usage?\(whole)&license_id=x'%20or%20'1'='1").data.isEmpty)
    #expect(try setup.get("/v1/usage?\(whole)&license_id=%00").status == 400)
    let own = try setup.get("/v1/usage?\(whole)&license_id=lic_1", token: "mtr_c1")
    #expect(own.status == 200)
    #expect(try setup.get("/v1/usage?\(whole)&license_id=lic_2", token: "mtr_c1").status == 404)
    #expect(try setup.get("/v1/usage?\(whole)&license_id=lic_x", token: "mtr_c1").status == 404)
    #expect(try setup.get("/v1/usage?\(whole)&customer_id=cus_2", token: "mtr_c1").status == 404)
  }

  @Test
  func `The largest groups are ranked across meters, and the others form one group per meter`()
    throws
  {
    let setup = try APISetup()
    let time = "\(day(2))T10:00:00Z"
    for (license, meter, quantity) in [
      ("lic_a", "api_calls", 9), ("lic_b", "api_calls", 7), ("lic_c", "api_calls", 1),
      ("lic_a", "exports", 8), ("lic_b", "exports", 2), ("lic_c", "exports", 3),
    ] {
      try setup.addUsage(license, time, quantity, meter: meter)
    }
    let range = "from=\(day(2))T00:00:00Z&to=\(day(1))T00:00:00Z"
    let top = try setup.get("/v1/usage?\(range)&top=2")
    #expect(
      top.data.map { "\($0["license_id"] ?? "") \($0["meter"] ?? "")" } == [
        "lic_a api_calls", "lic_a exports", "(other) api_calls", "(other) exports",
      ], "\(top.body)")
    #expect(quantities(top) == [9, 8, 8, 5])
    let meters = try setup.get("/v1/usage?\(range)&group_by=meter&top=1")
    #expect(meters.data.map { $0["meter"] as? String } == ["api_calls", "(other)"])
    #expect(quantities(meters) == [17, 13])
  }

  @Test func `Hours of meters are the sums of the licenses, pending, merged, folded and late`()
    throws
  {
    let setup = try APISetup()
    let (from, to) = ("\(day(3))T05:00:00Z", "\(day(1))T22:00:00Z")
    func sums(_ groups: String) throws -> [String: Int] {
      let found = try setup.get(
        "/v1/usage?from=\(from)&to=\(to)&window=hour&group_by=\(groups)&limit=10000")
      let pairs = found.data.map { row in
        ("\(row["window_start"] ?? "") \(row["meter"] ?? "")", row["quantity"] as? Int ?? 0)
      }
      return Dictionary(pairs, uniquingKeysWith: +)
    }
    /// The sum of days, from a date that may be before the first hours of meters that are kept.
    func days(_ groups: String, from: String) throws -> Int {
      try setup.get(
        "/v1/usage?from=\(from)T00:00:00Z&to=\(day(1))T00:00:00Z&group_by=\(groups)"
      ).data.reduce(0) { $0 + ($1["quantity"] as? Int ?? 0) }
    }
    try setup.addUsage("lic_1", "\(day(500))T10:00:00Z", 1_000)
    for round in 1...3 {
      for license in ["lic_1", "lic_2", "lic_none"] {
        for (time, meter) in [
          ("\(day(3))T05:59:00Z", "api_calls"), ("\(day(2))T00:00:00Z", "exports"),
          ("\(day(1))T21:30:00Z", "api_calls"), ("\(day(1))T22:00:00Z", "api_calls"),
        ] {
          try setup.addUsage(license, time, round, meter: meter)
        }
      }
      let pending = try sums("meter")
      #expect(pending == (try sums("license,meter")) && pending.count == 3)
      #expect(Set(pending.values) == [3 * (1...round).reduce(0, +)])
      _ = try setup.database.rows("select usage_merge('{0}')")
      #expect(try sums("meter") == pending)
      _ = try setup.database.rows("select usage_totals_make(1000)")
      _ = try setup.database.rows("select usage_fold(1000)")
      #expect(try sums("meter") == pending)
      let few = 2 * 3 * (1...round).reduce(0, +)
      for groups in ["meter", "license,meter"] {
        #expect(try days(groups, from: day(3)) == few)
        #expect(try days(groups, from: day(500)) == few + 1_000)
      }
    }
    #expect(try setup.database.integer("select count(*) from usage_meter_hour_delta") == 0)
    // If the hours of meters begin later than the range, the rows of licenses answer.
    try setup.database.execute(
      "update usage_meter_hour_state set complete_from = now(); delete from usage_meter_hour")
    #expect(Set(try sums("meter").values) == [18])
  }

  @Test func `A customer's token sees that customer's usage alone, and the running period`() throws
  {
    let setup = try APISetup()
    try setup.addLicense("lic_1", customer: "cus_1", limit: 10)
    try setup.addLicense("lic_2", customer: "cus_2")
    try setup.addToken("mtr_c1", scopes: "usage:read", customer: "cus_1")
    let now = ISO8601DateFormatter().string(from: Date())
    for license in ["lic_1", "lic_2", "lic_none"] { try setup.addUsage(license, now, 12) }
    let own = try setup.get("/v1/usage?range=last_24h", token: "mtr_c1")
    #expect(own.data.map { $0["license_id"] as? String } == ["lic_1"])
    let current = try setup.get("/v1/licenses/lic_1/usage/current", token: "mtr_c1")
    #expect(current.status == 200 && current["plan"] == "professional", "\(current.body)")
    let meter = (current.json["meters"] as? [[String: Any]])?.first ?? [:]
    #expect(meter["meter"] as? String == "api_calls" && meter["used"] as? Int == 12)
    #expect(meter["limit"] as? Int == 10 && meter["remaining"] as? Int == 0)
    #expect(meter["percent"] as? Int == 120 && meter["is_over"] as? Bool == true)
    let projected = meter["projected"] as? [String: Int] ?? [:]
    #expect(projected["low"] ?? 0 >= 12 && projected["low"] ?? 0 <= projected["high"] ?? 0)
    #expect(try setup.get("/v1/licenses/lic_2/usage/current", token: "mtr_c1").status == 404)
    #expect(try setup.get("/v1/licenses/lic_x/usage/current").status == 404)
  }
}
