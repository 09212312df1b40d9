import BillingPages
import Metering

extension PageFixtures {
  typealias Rendered = (name: String, page: Page, context: PageContext)

  /// Pages with much in them.
  static var crowded: [Rendered] {
    [
      overview,
      ("licenses", LicensesPage.make(licenses, in: context("/licenses")), context("/licenses")),
      license, customers, customer, statement, periods(ready: true), periods(ready: false),
      alertList,
      alert, webhooks, endpoint, delivery, deadLetters, deadLetter, events, search, audit, tokens,
      portal, portalStatement, signIn, away,
    ]
  }

  /// The same pages before anything has happened.
  static var empty: [Rendered] {
    let health = Health(lag: nil, completeThrough: nil, missing: 0, deadLetters: 0, halts: [])
    var fresh = context()
    fresh.completeThrough = nil
    let overview = OverviewPage.Data(
      health: health, usage: [], nearLimits: [], alerts: [], failing: [], duePeriods: 0)
    return [
      ("empty-overview", OverviewPage.make(overview, in: fresh), fresh),
      (
        "empty-licenses", LicensesPage.make(.init(lines: [], next: nil), in: context("/licenses")),
        context("/licenses")
      ),
      (
        "empty-customers", CustomersPage.make([], next: nil, in: context("/customers")),
        context("/customers")
      ),
      (
        "empty-periods",
        PeriodsPage.make(
          .init(periods: [], next: nil, preview: nil, adjustments: []), in: context("/periods")),
        context("/periods")
      ),
      (
        "empty-webhooks",
        WebhooksPage.make([], next: nil, deliveries: [], in: context("/webhooks")),
        context("/webhooks")
      ),
      (
        "empty-dead-letters", DeadLettersPage.make([], next: nil, in: context("/dead-letters")),
        context("/dead-letters")
      ),
      (
        "empty-search", SearchPage.make([], remark: nil, in: context("/search")), context("/search")
      ),
      ("empty-audit", AuditPage.make([], next: nil, in: context("/audit")), context("/audit")),
      (
        "empty-portal",
        PortalPage.make(
          .init(name: "Example Corp", licenses: [], usage: [], alerts: [], next: nil),
          in: context("/portal", isPortal: true)), context("/portal", isPortal: true)
      ),
    ]
  }

  private static var licenses: LicensesPage.Data {
    LicensesPage.Data(
      lines: lines, next: "cursor",
      unregistered: [
        .init(id: quotes, meter: "exports", quantity: 90_210, lastDay: now - day)
      ])
  }

  private static var overview: Rendered {
    let health = Health(
      lag: 12, completeThrough: now - 4_000, missing: 0, deadLetters: 3, halts: [])
    let points = hours(24)
    let usage = OverviewPage.Usage(
      meter: "api_calls", today: .init(now: 118_402, wholeHours: 117_900, before: 104_888),
      month: .init(now: 3_204_771, wholeHours: 3_204_269, before: 3_660_114),
      until: points[23].end, hours: points, from: points[0].start, to: points[23].end,
      marks: [.init(time: points[20].start, text: "More than usual.", tone: .warning)])
    let data = OverviewPage.Data(
      health: health, usage: [usage], nearLimits: uses, alerts: alerts,
      failing: [endpoints[1]], duePeriods: 240)
    return ("overview", OverviewPage.make(data, in: context()), context())
  }

  private static var license: Rendered {
    let start: Int64 = 1_793_491_200_000
    let context = context("/licenses/lic_abc123")
    let data = LicensePage.Data(
      id: long,
      license: .init(
        customer: "cus_1", plan: "professional", status: "active",
        domains: (0..<200).map { "tenant-\($0).customers.example.org" },
        features: ["analytics", "webhooks", script], seats: 10, isTrial: false,
        overagePolicy: "block", thresholds: [80, 100], anchorDay: 1, issuedAt: now - 200 * day,
        expiresAt: now + 165 * day, limits: [("api_calls", 50_000), ("exports", 200)]),
      meters: [
        .init(
          meter: "api_calls", periodStart: start, periodEnd: start + 30 * day, used: 48_250,
          limit: 50_000, projection: .init(quantity: 55_400, low: 52_100, high: 59_800)),
        .init(
          meter: "exports", periodStart: start, periodEnd: start + 30 * day, used: 31, limit: nil,
          projection: nil),
      ],
      period: days(26, from: start, value: 1_500),
      usage: .init(
        meter: "api_calls", window: "day", from: start, to: start + 30 * day,
        points: days(26, from: start, value: 1_500)),
      domains: (0..<40).map {
        .init(value: "tenant-\($0).customers.example.org", quantity: 9000 / ($0 + 1))
      },
      features: [.init(value: script, quantity: 4000), .init(value: "(other)", quantity: 3)],
      periods: periods, alerts: alerts, deliveries: deliveries)
    return ("license", LicensePage.make(data, in: context), context)
  }

  private static var customers: Rendered {
    let lines = [
      CustomersPage.Line(
        id: "cus_1", name: "Example Corp", licenses: 12, createdAt: now - 400 * day),
      CustomersPage.Line(id: quotes, name: script, licenses: 1_200, createdAt: now - 4 * day),
      CustomersPage.Line(id: long, name: long, licenses: 0, createdAt: now - day),
    ]
    return (
      "customers", CustomersPage.make(lines, next: nil, in: context("/customers")),
      context("/customers")
    )
  }

  private static var customer: Rendered {
    let start: Int64 = 1_793_491_200_000
    let data = CustomerPage.Data(
      id: "cus_1", name: script, stripeCustomerID: "cus_NffrFeUfNV2Hib", createdAt: now - 400 * day,
      usage: [
        Chart(
          title: "Calls by day", style: .bars, from: start, to: start + 30 * day,
          points: days(27, from: start, value: 90_000))
      ], licenses: lines, hasMoreLicenses: true,
      statements: [
        .init(month: "2026-11", status: "open", billable: 3_204_771),
        .init(month: "2026-10", status: "closed", billable: 3_660_114),
      ], sessions: [.init(id: "ps_1", expiresAt: now + hour, createdAt: now - hour, isUsed: true)])
    let context = context("/customers/cus_1")
    return (
      "customer",
      CustomerPage.make(
        data, portalURL: "https://metering.example.com/portal/sign-in?link=abcdef", in: context),
      context
    )
  }

  private static func statementData(_ customer: String) -> StatementPage.Data {
    let line = StatementPage.Line(
      license: "lic_abc123", meter: "api_calls", periodStart: 1_790_812_800_000,
      periodEnd: 1_793_491_200_000, quantity: 61_250, included: 50_000, overage: 11_250,
      adjustments: [
        .init(kind: "late", quantity: 17, reason: "", periodStart: 1_788_220_800_000),
        .init(kind: "manual", quantity: -500, reason: script, periodStart: 1_790_812_800_000),
      ], billable: 60_767,
      domains: [
        .init(value: "example.com", quantity: 61_000), .init(value: "(other)", quantity: 250),
      ])
    let other = StatementPage.Line(
      license: long, meter: "exports", periodStart: 1_790_812_800_000,
      periodEnd: 1_793_491_200_000, quantity: 31, included: nil, overage: nil, adjustments: [],
      billable: 31, domains: [])
    return StatementPage.Data(
      customer: customer, name: "Example Corp", month: "2026-10", status: "closed",
      lines: [line, other],
      totals: [
        .init(
          meter: "api_calls", quantity: 61_250, adjustments: -483, overage: 11_250, billable: 60_767
        ),
        .init(meter: "exports", quantity: 31, adjustments: 0, overage: 0, billable: 31),
      ], signature: String(repeating: "eyJhbGciOiJFUzI1NiJ9", count: 20))
  }

  private static var statement: Rendered {
    let context = context("/customers/cus_1/statements/2026-10")
    return ("statement", StatementPage.make(statementData("cus_1"), in: context), context)
  }

  private static func periods(ready: Bool) -> Rendered {
    let preview = PeriodsPage.Preview(
      endingBefore: 1_793_491_200_000, customer: nil, isReady: ready,
      blockers: ready
        ? []
        : [
          .init(
            code: "grace_not_over", detail: "The newest period ended 3 h ago; closing waits 24 h."),
          .init(code: "missing", detail: script),
        ],
      warnings: ready ? [] : [.init(code: "dead_letters", detail: "3 records were not counted.")],
      periods: 240, meters: [("api_calls", 3_660_114, 120_400), ("exports", 4_002, 0)])
    let adjustments = [
      PeriodsPage.Adjustment(
        id: "7", license: "lic_abc123", meter: "api_calls", kind: "late", quantity: 17,
        appliesTo: 1_788_220_800_000, invoicedIn: nil, reason: "arrived late", recordedBy: "close",
        recordedAt: now - day, isReversible: false),
      PeriodsPage.Adjustment(
        id: "8", license: long, meter: "api_calls", kind: "manual", quantity: -500,
        appliesTo: 1_788_220_800_000, invoicedIn: nil, reason: quotes, recordedBy: script,
        recordedAt: now - hour, isReversible: true),
    ]
    let data = PeriodsPage.Data(
      periods: periods, next: "cursor", preview: preview, adjustments: adjustments)
    return (
      ready ? "periods" : "periods-blocked", PeriodsPage.make(data, in: context("/periods")),
      context("/periods")
    )
  }

  private static var alertList: Rendered {
    ("alerts", AlertsPage.make(alerts, next: "c", in: context("/alerts")), context("/alerts"))
  }

  private static var alert: Rendered {
    let detail = AlertsPage.Detail(
      alert: alerts[1],
      facts: [
        ("Requested domain", "pirated-site.com"), ("Closest bound domain", script),
        ("Count", "17"), ("Detector", "3"),
      ], evidence: [("Epoch", "1"), ("Partition", "12"), ("Offsets", "88123 to 88410")],
      json: "{\n  \"reason\": \"\(script)\"\n}", deliveries: deliveries)
    return ("alert", AlertsPage.detail(detail, in: context("/alerts/40")), context("/alerts/40"))
  }

  private static var webhooks: Rendered {
    (
      "webhooks",
      WebhooksPage.make(
        endpoints, next: nil, deliveries: deliveries,
        secret: .init(
          url: "https://example.com/hooks", secret: "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQ="),
        in: context("/webhooks")), context("/webhooks")
    )
  }

  private static var endpoint: Rendered {
    (
      "endpoint",
      WebhooksPage.endpoint(
        endpoints[1], deliveries: deliveries, next: nil,
        notice: Notice(.good, "A test webhook was sent. It is the first of the deliveries below."),
        in: context("/webhooks/ep_2")), context("/webhooks/ep_2")
    )
  }

  private static var delivery: Rendered {
    let data = DeliveryPage.Data(
      delivery: deliveries[2], url: "https://gone.example.net/h", customer: nil,
      occurredAt: now - 4 * day, finishedAt: now - day,
      body: "{\"type\":\"license.expiring\",\"data\":{\"license_id\":\"\(script)\"}}",
      attempts: [
        .init(
          number: 1, time: now - 4 * day, statusCode: 500, error: nil, milliseconds: 231,
          answer: script),
        .init(
          number: 2, time: now - 4 * day + 5_000, statusCode: nil,
          error: "timeout: no answer in 15 s",
          milliseconds: 15_002, answer: "",
          traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
      ])
    return (
      "delivery", DeliveryPage.make(data, in: context("/deliveries/1199")),
      context("/deliveries/1199")
    )
  }

  private static let letters = [
    DeadLettersPage.Line(
      place: "1/license.usage.v1/3/812", topic: "license.usage.v1", partition: 3, offset: 812,
      reason: "bad_quantity", detail: "data.quantity is not a whole number from 0 to 1000000000",
      receivedAt: now - hour, requeuedAt: nil, countedAt: nil),
    DeadLettersPage.Line(
      place: "1/license.usage.v1/3/811", topic: "license.usage.v1", partition: 3, offset: 811,
      reason: "not_json", detail: script, receivedAt: now - hour, requeuedAt: now, countedAt: nil),
  ]

  private static var deadLetters: Rendered {
    (
      "dead-letters", DeadLettersPage.make(letters, next: nil, in: context("/dead-letters")),
      context("/dead-letters")
    )
  }

  private static var deadLetter: Rendered {
    let detail = DeadLettersPage.Detail(
      line: letters[0], payload: "{\"specversion\":\"1.0\",\"id\":\"\(script)\"}", key: quotes)
    return (
      "dead-letter", DeadLettersPage.detail(detail, in: context("/dead-letters/x")),
      context("/dead-letters/x")
    )
  }

  private static var events: Rendered {
    let events = [
      EventsPage.Event(
        partition: 3, offset: 812, epoch: 1, id: "01JDCX4Z2N6W0V8K3M5Q7R9T1B",
        source: "/validation/eu-1",
        time: now - hour, quantity: 1, domain: "app.example.com", feature: nil, status: "counted"),
      EventsPage.Event(
        partition: 3, offset: 813, epoch: 1, id: long, source: script, time: now - hour,
        quantity: 250, domain: quotes, feature: script, status: "duplicate"),
    ]
    let producers = [
      EventsPage.Producer(
        name: "eu-1-7f3a", topic: "license.usage.v1", accepted: 9_000_000, counted: 8_999_990,
        duplicates: 8, deadLettered: 2, inFlight: 0, missing: 0, lastReportAt: now - 8_000),
      EventsPage.Producer(
        name: script, topic: "license.usage.v1", accepted: nil, counted: 12, duplicates: 0,
        deadLettered: 0, inFlight: nil, missing: 4, lastReportAt: nil),
    ]
    let context = context(
      "/events", query: [("license_id", script), ("from", "2026-11-27T09:00:00Z")])
    return (
      "events",
      EventsPage.make(
        .init(
          events: events, next: "c", provableFrom: now - 90 * day, problem: nil,
          producers: producers), in: context), context
    )
  }

  private static var search: Rendered {
    let hits = [
      SearchPage.Hit(kind: "License", id: script, path: "/licenses/x", detail: "active, of cus_1"),
      SearchPage.Hit(kind: "Event", id: long, path: nil, detail: quotes),
    ]
    let context = context("/search", query: [("q", quotes)])
    return ("search", SearchPage.make(hits, remark: nil, in: context), context)
  }

  private static var audit: Rendered {
    let lines = [
      AuditPage.Line(
        time: now - hour, actor: "billing team", action: "license.suspend",
        resource: "license/\(script)",
        before: "{\"status\":\"active\"}", after: "{\"status\":\"suspended\"}",
        requestID: "req_01JDCX4Z2N6W0V8K3M5Q7R9T1B", address: "203.0.113.9",
        userAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 \(quotes)", status: 200)
    ]
    return ("audit", AuditPage.make(lines, next: nil, in: context("/audit")), context("/audit"))
  }

  private static var tokens: Rendered {
    let lines = [
      TokensPage.Line(
        id: "tok_1", name: "billing team", scopes: ["usage:read", "billing:write"], customer: nil,
        createdAt: now - 40 * day, expiresAt: now + 50 * day, revokedAt: nil),
      TokensPage.Line(
        id: "tok_2", name: script, scopes: ["admin"], customer: quotes, createdAt: now - 40 * day,
        expiresAt: nil, revokedAt: now - day),
    ]
    return (
      "tokens", TokensPage.make(lines, next: nil, token: "mtk_abcdef", in: context("/tokens")),
      context("/tokens")
    )
  }

  private static var portal: Rendered {
    let start: Int64 = 1_793_491_200_000
    let context = context("/portal", isPortal: true, scopes: ["usage:read", "webhooks:write"])
    let data = PortalPage.Data(
      name: script, licenses: lines,
      usage: [
        Chart(
          title: "Calls by day", style: .bars, from: start, to: start + 30 * day,
          points: days(27, from: start, value: 90_000))
      ], alerts: alerts, next: nil)
    return ("portal", PortalPage.make(data, in: context), context)
  }

  private static var portalStatement: Rendered {
    let context = context("/portal/statements/2026-10", isPortal: true, scopes: [])
    return ("portal-statement", StatementPage.make(statementData("cus_1"), in: context), context)
  }

  private static var signIn: Rendered {
    var context = context("/sign-in")
    context.session = nil
    return (
      "sign-in",
      SignInPage.make(next: "/\(quotes)", problem: "This token is unknown.", in: context), context
    )
  }

  private static var away: Rendered {
    (
      "away",
      ProblemPage.make(
        status: 503, title: "The database does not answer",
        detail: "This page reloads by itself once PostgreSQL answers again. No usage is lost, "
          + "because events wait in the log.", isRetried: true, in: context("/licenses")),
      context("/licenses")
    )
  }
}
