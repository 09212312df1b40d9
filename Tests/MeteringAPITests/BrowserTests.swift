import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// A browser that people use: Debian's Chromium, driven by Playwright, with axe for WCAG. If one of
/// them is missing, the test is skipped.
enum Browser {
  static let chromium = ["/usr/bin/chromium", "/usr/lib/chromium/chromium"].first {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  /// A Python that has both packages; nil if there is none.
  static let python: String? = {
    let given = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? ""
    guard FileManager.default.isExecutableFile(atPath: given) else { return nil }
    let probe = try? ChildProcess(given, ["-c", "import playwright, axe_playwright_python"])
    return probe?.wait() == 0 ? given : nil
  }()

  static var isThere: Bool { chromium != nil && python != nil }
}

@Suite struct BrowserTests {
  @Test(.enabled(if: Browser.isThere, "chromium, or Playwright and axe of PyPI, are not there"))
  func `a month's end is found, examined, closed, corrected and printed in a browser`() throws {
    let python = try #require(Browser.python)
    let keys = NSTemporaryDirectory() + "pages-keys-\(UUID().uuidString).json"
    defer { try? FileManager.default.removeItem(atPath: keys) }  // The system clears it too.
    let made = try ChildProcess(
      ChildProcess.product("meterctl"), ["key", "generate", "--out", keys])
    #expect(made.wait() == 0, "\(made.output)")
    let api = try APISetup(environment: [
      "METER_SIGNING_KEY_FILE": keys, "METER_CLOSE_GRACE": "0s",
      "METER_ENCRYPTION_KEY": Data(repeating: 7, count: 32).base64EncodedString(),
    ])
    let license = "lic <b>\"'&/\(String(repeating: "long-", count: 40))"
    try seed(api, license: license)
    let month = try #require(
      try api.database.rows(
        "select to_char(date_trunc('month', now() at time zone 'UTC') - interval '1 day','YYYY-MM')"
      ).first?[0])
    let folder = NSTemporaryDirectory() + "pages-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }  // The system clears it too.

    let browser = try ChildProcess(
      python,
      [
        "Tests/MeteringAPITests/Browser/months_end.py", "http://127.0.0.1:\(api.port)",
        APISetup.adminToken, license, "cus_1", month, folder,
      ])
    #expect(browser.wait() == 0, "\(browser.output)")
  }

  /// Two licenses with usage by hour and minute since the month before last. One is over a limit.
  private func seed(_ api: APISetup, license: String) throws {
    try api.addCustomer("cus_1")
    try api.database.execute("update customer set name = '<script>alert(1)</script>'")
    for (id, limit) in [(license, 5_000), ("lic_plain", 1_000_000)] {
      _ = try api.database.rows(
        """
        insert into license (license_id, customer_id, plan, features, domains, issued_at,
          expires_at)
        values ($1, 'cus_1', 'professional', '{analytics}',
          (select array_agg('t' || n || '.example.org') from generate_series(1, 200) n),
          now() - interval '400 days', now() + interval '300 days')
        """, [.text(id)])
      _ = try api.database.rows(
        "insert into license_billing_anchor values ($1, '-infinity', 1)", [.text(id)])
      _ = try api.database.rows(
        "insert into license_limit values ($1, 'api_calls', $2::bigint)",
        [.text(id), .int(limit)])
      _ = try api.database.rows(
        """
        insert into usage_pending
        select 1, 0, $1, 'api_calls', h, 0, 9, 40, 40, '[5,30,30],[35,10,10]',
          '["domain","tenant-1.example.org",40,40],["feature","analytics",40,40]'
        from generate_series(date_trunc('month', now()) - interval '32 days',
          date_trunc('hour', now()), interval '1 hour') h
        """, [.text(id)])
    }
    try api.database.execute(
      """
      insert into webhook_endpoint (endpoint_id, customer_id, url, consecutive_failures,
        failing_since)
      values ('ep_1', null, 'https://hooks.example.com/license-metering', 0, null),
        ('ep_2', 'cus_1', 'https://a-long-host-name.customers.example.org/<script>', 12, now());
      select usage_merge('{0}');
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason,
        detail, payload) values ('license.usage.v1', 3, 812, 1, 'usage-aggregator', 'not_json',
        'byte 0 cannot stand here', '<script>alert(1)</script>')
      """)
  }
}
