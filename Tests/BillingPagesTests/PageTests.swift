import Testing

@testable import BillingPages

@Suite struct PageTests {
  private func html(_ name: String) throws -> String {
    let item = try #require(
      (PageFixtures.crowded + PageFixtures.empty).first { $0.name == name })
    return item.page.html(in: item.context)
  }

  @Test func `every address begins with the base path`() {
    let context = PageFixtures.context("/licenses", basePath: "/metering")
    let html = LicensesPage.make(.init(lines: PageFixtures.lines, next: "c"), in: context)
      .html(in: context)
    for range in html.ranges(of: /(?:href|action|src)="([^"#][^"]*)"/) {
      #expect(html[range].contains("=\"/metering/"), "\(html[range])")
    }
  }

  @Test func `the zone goes along with every link and is written`() throws {
    let zone = DisplayZone(name: "Europe/Berlin") { _ in (3600, "CET") }
    let context = PageFixtures.context(
      "/alerts", query: [("time_zone", "Europe/Berlin")], zone: zone)
    let html = AlertsPage.make(PageFixtures.alerts, next: nil, in: context).html(in: context)
    #expect(html.contains("href=\"/alerts/41?time_zone=Europe%2FBerlin\""))
    #expect(html.contains("title=\"2026-11-27 11:38:07 CET\""))
    #expect(html.contains("datetime=\"2026-11-27T10:38:07.000Z\""))
    #expect(html.contains("name=\"time_zone\" value=\"Europe/Berlin\""))
  }

  @Test func `a filter keeps the other parameters of the address and drops the cursor`() {
    let context = PageFixtures.context(
      "/licenses", query: [("status", "active"), ("cursor", "abc"), ("q", "lic")])
    #expect(context.here([("q", nil)]) == "/licenses?status=active")
    #expect(context.here([("cursor", "def")]) == "/licenses?status=active&q=lic&cursor=def")
    #expect(context.here([("q", "a&b=ü")]) == "/licenses?status=active&q=a%26b%3D%C3%BC")
  }

  @Test func `a page on a wall reloads by itself and can be paused`() {
    let still = PageFixtures.context("/", query: [("range", "last_24h")])
    let running = PageFixtures.context("/", query: [("range", "last_24h"), ("refresh", "5")])
    let page = Page("Overview", place: "/")
    #expect(!page.html(in: still).contains("http-equiv=\"refresh\""))
    #expect(page.html(in: still).contains("href=\"/?range=last_24h&amp;refresh=5\""))
    #expect(page.html(in: running).contains("<meta http-equiv=\"refresh\" content=\"5\">"))
    #expect(page.html(in: running).contains("href=\"/?range=last_24h\">Pause</a>"))
  }

  @Test func `forms that change something carry the session's CSRF token`() throws {
    for item in PageFixtures.crowded {
      let html = item.page.html(in: item.context)
      let posts = html.ranges(of: "method=\"post\"").count
      #expect(html.ranges(of: "name=\"csrf\"").count == posts, "\(item.name)")
    }
  }

  @Test func `actions that the reader may not carry out are not offered`() {
    let context = PageFixtures.context("/webhooks", scopes: ["webhooks:read"])
    let html = WebhooksPage.endpoint(
      PageFixtures.endpoints[0], deliveries: [], next: nil, in: context
    ).html(in: context)
    #expect(html.ranges(of: "method=\"post\"").count == 1, "only the form that signs out")
    #expect(!html.contains(">Tokens<"))
    #expect(!html.contains(">Periods<"))
  }

  @Test func `the overview answers first whether everything is counted`() throws {
    func sentence(_ health: Health) -> String {
      var page = Page("x", place: "/")
      page.add(health.verdict(in: PageFixtures.context()))
      let html = page.html(in: PageFixtures.context())
      let start = html.firstRange(of: "class=\"verdict")!.lowerBound
      return String(html[start...].prefix(1200)).replacing(/<[^>]*>/, with: "")
    }
    let now = PageFixtures.now
    var health = Health(
      lag: 0, completeThrough: now - 2_000, missing: 0, deadLetters: 0, halts: [])
    #expect(sentence(health).contains("Everything is counted. The numbers are complete through"))
    health.completeThrough = now - 600_000
    health.lag = 12_000
    #expect(
      sentence(health).contains(
        "Counting is behind: the numbers are complete through 10 min ago, and 12,000 events wait"))
    health.missing = 4
    #expect(sentence(health).contains("4 events that producers accepted are missing."))
    health.halts = [
      .init(topic: "t", partition: 3, reason: "It was truncated.", remedy: "meterctl x")
    ]
    #expect(sentence(health).contains("1 partition stands still"))
    #expect(sentence(health).contains("This ends it: meterctl x"))
  }

  @Test
  func `records that could not be counted are part of the answer, and nothing is said to be whole`()
  {
    func sentence(_ missing: Int64) -> String {
      let health = Health(
        lag: 0, completeThrough: PageFixtures.now - 2_000, missing: missing, deadLetters: 17,
        halts: [])
      var page = Page("x", place: "/")
      page.add(health.verdict(in: PageFixtures.context()))
      return page.html(in: PageFixtures.context()).replacing(/<[^>]*>/, with: "")
    }
    let good = sentence(0)
    #expect(good.contains("Everything is counted except 17 records. The other numbers are"))
    #expect(good.contains("17 records could not be counted. See why"))
    #expect(!good.contains("nothing is missing"))
    #expect(sentence(4).contains("All others that can be counted are counted through"))
  }

  @Test func `a license near a limit is shown with the meter of the limit`() throws {
    let overview = try html("overview")
    #expect(overview.contains("<td data-title=\"Meter\">exports</td>"), "\(overview)")
    #expect(
      !overview.contains("<td data-title=\"Calls\" class=\"right\"><span class=\"number\">61,250"))
    #expect(try html("portal").contains("<td data-title=\"Meter\">exports</td>"))
    #expect(try html("licenses").contains("<span class=\"quiet\">exports</span>"))
  }

  @Test func `a form that was refused is open, has what was entered, and is named at the top`() {
    var context = PageFixtures.context("/tokens")
    context.once = "0123456789abcdef"
    context.refused = RefusedForm(
      form: "token",
      fields: [
        ("name", "<i>n</i>"), ("customer_id", ""), ("expires", "365d"), ("scope", "usage:read"),
      ], detail: nil, errors: [("name", "It is too long.")])
    let html = TokensPage.make([], next: nil, in: context).html(in: context)
    #expect(
      html.contains("<strong>Name: </strong>It is too long. <a href=\"#token-0\">"), "\(html)")
    #expect(html.contains("<details class=\"folded\" open>"))
    #expect(html.contains("value=\"&lt;i&gt;n&lt;/i&gt;\""))
    #expect(html.contains("<option value=\"365d\" selected>"))
    #expect(html.contains("value=\"usage:read\" checked"))
    #expect(!html.contains("value=\"admin\" checked"))
    context.refused?.form = "another"
    let other = TokensPage.make([], next: nil, in: context).html(in: context)
    #expect(other.contains("<strong>name: </strong>It is too long."))
    #expect(!other.contains("folded\" open") && !other.contains("&lt;i&gt;"))
  }

  @Test func `an empty page says what is missing and which command brings it`() throws {
    #expect(try html("empty-licenses").contains("meterctl license import licenses.jsonl"))
    #expect(try html("empty-webhooks").contains("meterctl endpoint add --all-customers"))
    #expect(try html("empty-overview").contains("meterctl load"))
  }

  @Test func `the same data can be had with curl and as CSV`() throws {
    let html = try html("licenses")
    #expect(html.contains("href=\"/csv/licenses\">Download as CSV"))
    #expect(
      html.contains(
        "Authorization: Bearer $TOKEN&quot; &#39;https://metering.example.com/v1/licenses&#39;"
      ))
  }

  @Test func `a delivery shows the traceparent of each attempt, and no column if none had one`()
    throws
  {
    let traced = try html("delivery")
    #expect(traced.contains(">traceparent</th>"))
    #expect(traced.contains("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    let data = DeliveryPage.Data(
      delivery: PageFixtures.deliveries[2], url: "https://example.net/h", customer: nil,
      occurredAt: PageFixtures.now, finishedAt: nil, body: "{}",
      attempts: [
        .init(
          number: 1, time: PageFixtures.now, statusCode: 204, error: nil, milliseconds: 3,
          answer: "")
      ])
    let context = PageFixtures.context("/deliveries/1199")
    #expect(!DeliveryPage.make(data, in: context).html(in: context).contains("traceparent"))
  }

  @Test func `a license with 200 domains shows one and folds the others`() throws {
    let html = try html("license")
    #expect(html.contains("tenant-0.customers.example.org and 199 more"))
    #expect(html.contains("tenant-199.customers.example.org"))
  }

  @Test func `the first page of the portal has an address without a slash at its end`() {
    let context = PageFixtures.context("/portal", basePath: "/billing", isPortal: true)
    #expect(context.url("/") == "/billing/portal")
    #expect(context.url("/", [("cursor", "a")]) == "/billing/portal?cursor=a")
    #expect(PageFixtures.context("/", basePath: "/billing").url("/") == "/billing/")
  }

  @Test func `the customer's own pages link only to themselves`() throws {
    for name in ["portal", "portal-statement"] {
      let html = try html(name)
      for range in html.ranges(of: /(?:href|action)="(\/[^"]*)"/) {
        let address = html[range]
        #expect(
          address.contains("\"/portal/") || address.contains("\"/assets/")
            || address.contains("\"/.well-known/") || address.contains("\"/portal?")
            || address.contains("\"/portal\""), "\(name): \(address)")
      }
    }
  }
}
