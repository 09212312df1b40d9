import BillingPages
import Metering

/// Every page in two forms: with data that no page should stumble over (ids of 255 bytes, names
/// with markup, 200 domains), and with nothing at all.
enum PageFixtures {
  /// 2026-11-27 10:41:07 UTC.
  static let now: Int64 = 1_795_776_067_000
  static let hour: Int64 = 3_600_000
  static let day: Int64 = 86_400_000

  static let script = "<script>alert('1')</script>"
  static let quotes = "\"' onmouseover=alert(1) x=\"\u{301}> & {{name}} {{{name}}} $TOKEN"
  static let long = String(repeating: "lic-0123456789", count: 19).prefix(255).description

  static func context(
    _ path: String = "/", query: [PageContext.Parameter] = [], basePath: String = "",
    isPortal: Bool = false, zone: DisplayZone = .utc, scopes: Set<String> = ["admin"]
  ) -> PageContext {
    var context = PageContext(
      basePath: basePath, path: path, query: query, zone: zone, now: now,
      origin: "https://metering.example.com",
      session: .init(
        name: isPortal ? "Example Corp" : "billing team", csrf: "csrf-of-the-session",
        scopes: scopes, isPortal: isPortal, customer: isPortal ? "cus_1" : nil))
    context.asOf = now
    context.completeThrough = now - 4_000
    return context
  }

  // MARK: Pieces

  static func hours(_ count: Int64, end: Int64 = now, compares: Bool = true) -> [Chart.Point] {
    let last = end / hour * hour
    return (0..<count).map { index in
      let start = last - (count - 1 - index) * hour
      let phase = (start / hour) % 24
      let value = 4_000 + 900 * (12 - abs(12 - phase)) + (start / hour * 7919) % 1700
      return Chart.Point(
        start: start, end: start + hour, value: value,
        previous: compares ? value * 9 / 10 + 300 : nil, href: "/licenses/lic_1?window=minute")
    }
  }

  static func days(_ count: Int64, from: Int64, value: Int64) -> [Chart.Point] {
    (0..<count).map {
      Chart.Point(
        start: from + $0 * day, end: from + ($0 + 1) * day, value: value + ($0 * 7919) % (value / 2)
      )
    }
  }

  static let uses = [
    LicenseUse(
      license: "lic_abc123", customer: "cus_1", meter: "api_calls", used: 61_250, limit: 50_000),
    LicenseUse(license: long, customer: "cus_1", meter: "api_calls", used: 49_100, limit: 50_000),
    LicenseUse(license: script, customer: quotes, meter: "exports", used: 8_400, limit: 10_000),
  ]

  static let alerts = [
    AlertLine(
      id: "41", type: "license.limit_exceeded", license: "lic_abc123", customer: "cus_1",
      time: now - 180_000, summary: "It used 50,000 api calls, 100 % of its limit of 50,000."),
    AlertLine(
      id: "40", type: "license.suspicious_activity", license: long, customer: "cus_2",
      time: now - 2 * day,
      summary: "It was used on pirated-site.com, which is not one of its domains, 17 times."),
    AlertLine(
      id: "39", type: "license.expiring", license: script, customer: quotes, time: now - 9 * day,
      summary: quotes),
  ]

  static let endpoints = [
    EndpointLine(
      id: "ep_1", customer: nil, url: "https://hooks.example.com/license-metering", events: [],
      status: "active", disabledReason: nil, failures: 0, failingSince: nil,
      createdAt: now - 90 * day),
    EndpointLine(
      id: "ep_2", customer: "cus_2",
      url: "https://a-rather-long-host-name.customers.example.org/" + script,
      events: ["license.limit_exceeded", "license.suspicious_activity"], status: "active",
      disabledReason: nil, failures: 12, failingSince: now - 5 * hour, createdAt: now - 9 * day),
    EndpointLine(
      id: "ep_3", customer: "cus_3", url: "https://gone.example.net/h", events: [],
      status: "disabled", disabledReason: "five days of nothing but failure", failures: 44,
      failingSince: now - 6 * day, createdAt: now - 200 * day),
  ]

  static let deliveries = [
    DeliveryLine(
      id: "1201", webhookID: "msg_2Lh9KRb0pzN4LePd3XiA4v9Axj", endpoint: "ep_2",
      type: "license.limit_exceeded", license: "lic_abc123", status: "pending", attempts: 3,
      nextAttemptAt: now + 1_700_000, createdAt: now - 170_000, lastResult: "503"),
    DeliveryLine(
      id: "1200", webhookID: "msg_2", endpoint: "ep_1", type: "license.limit_exceeded",
      license: script, status: "delivered", attempts: 1, nextAttemptAt: nil,
      createdAt: now - 170_000, lastResult: "200"),
    DeliveryLine(
      id: "1199", webhookID: "msg_3", endpoint: "ep_3", type: "license.expiring", license: nil,
      status: "failed", attempts: 10, nextAttemptAt: nil, createdAt: now - 4 * day,
      lastResult: quotes),
  ]

  static let lines = [
    LicensesPage.Line(
      id: "lic_abc123", customer: "cus_1", plan: "professional", status: "active",
      domains: ["example.com", "*.example.com", "example.net"], expiresAt: now + 200 * day,
      use: uses[0]),
    LicensesPage.Line(
      id: long, customer: "cus_1", plan: "enterprise", status: "suspended",
      domains: (0..<200).map { "tenant-\($0).customers.example.org" }, expiresAt: now + 20 * day,
      use: uses[1]),
    LicensesPage.Line(
      id: script, customer: quotes, plan: script, status: "canceled",
      domains: [String(repeating: "d", count: 255)], expiresAt: now - 20 * day, use: uses[2]),
  ]

  static let periods = [
    PeriodLine(
      id: "p1", license: "lic_abc123", customer: "cus_1", meter: "api_calls",
      start: 1_793_491_200_000, end: 1_796_083_200_000, quantity: 61_250, late: 0, included: 50_000,
      overage: 11_250, status: "open"),
    PeriodLine(
      id: "p2", license: long, customer: quotes, meter: "exports", start: 1_790_812_800_000,
      end: 1_793_491_200_000, quantity: 1_048_233, late: 17, included: nil, overage: nil,
      status: "due"),
    PeriodLine(
      id: "p3", license: script, customer: nil, meter: "api_calls", start: 1_788_220_800_000,
      end: 1_790_812_800_000, quantity: 12, late: -3, included: 0, overage: 12, status: "closed"),
  ]
}
