import Billing
import BillingPages
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// `/licenses` and `/licenses/{id}`, in the vendor's pages and in the customer portal.
enum LicensePages {
  static func routes(_ pages: PageHandling) -> [Route] {
    let one = PageHandling.FormPage("/licenses/{id}") { try await show($0) }
    let shown = [pages.get(one.path, one.show)]
    if pages.kind == .portal { return shown }
    let all = PageHandling.FormPage("/licenses") { try await list($0) }
    return shown + [
      pages.get(all.path, all.show),
      pages.post("/licenses", on: all) { try await LicenseTerms.create($0) },
      pages.post("/licenses/{id}/terms", on: one) { try await LicenseTerms.change($0) },
      pages.post("/licenses/{id}/suspend") { try await step($0, "suspend", "suspended") },
      pages.post("/licenses/{id}/resume") { try await step($0, "resume", "resumed") },
      pages.post("/licenses/{id}/cancel", on: one) { visit in
        guard visit.form["confirm"] == "yes" else {
          throw Problem(.badRequest, "not_confirmed", "Tick the box to cancel the license.")
        }
        return try await step(visit, "cancel", "canceled")
      },
      pages.post("/licenses/{id}/limits", on: one) { try await setLimits($0) },
    ]
  }

  // MARK: The list

  private static func list(_ visit: PageVisit) async throws -> APIAnswer {
    let filters = visit.context.filters(LicensesPage.filters)
    // Unregistered licenses are mentioned only on the first page of the list without filters.
    let showsStrangers = filters.isEmpty && visit.filters("cursor").isEmpty
    async let strangers = showsStrangers ? unregistered(visit) : []
    let data = try await visit.client.get("/v1/licenses", visit.list(filters))
    let lines = try await withUse(data["data"].list, visit)
    return visit.html(
      LicensesPage.make(
        LicensesPage.Data(
          lines: lines, next: data["next"].text, unregistered: try await strangers),
        in: visit.context))
  }

  private static func unregistered(
    _ visit: PageVisit
  ) async throws -> [LicensesPage.Unregistered] {
    let found = try await visit.client.getIfAllowed("/v1/usage/unregistered", [("limit", "25")])
    return (found?["data"].list ?? []).map { row in
      LicensesPage.Unregistered(
        id: row["license_id"].text ?? "", meter: row["meter"].text ?? "",
        quantity: row["quantity"].integer ?? .max,
        lastDay: row["last_day"].text.flatMap { TimeText.read($0 + "T00:00:00Z") } ?? 0)
    }
  }

  /// Licenses for a list, each with its most used limit.
  static func withUse(
    _ licenses: [PageData], _ visit: PageVisit
  ) async throws -> [LicensesPage.Line] {
    let ids = licenses.compactMap { $0["license_id"].text.map(Identifier.init(_:)) }
    let uses = try await visit.request.read { try PageReads($0).uses(of: ids) }
    return licenses.map { license in
      let id = license["license_id"].text ?? ""
      return LicensesPage.Line(
        id: id, customer: license["customer_id"].text ?? "", plan: license["plan"].text ?? "",
        status: license["status"].text ?? "", domains: license["domains"].texts,
        expiresAt: license["expires_at"].time ?? 0, use: uses[Identifier(id)].map(use))
    }
  }

  static func use(_ found: PageReads.LimitUse) -> LicenseUse {
    LicenseUse(
      license: found.license.string, customer: found.customer?.string, meter: found.meter,
      used: found.used, limit: found.limit)
  }

  // MARK: One license

  private static func show(_ visit: PageVisit) async throws -> APIAnswer {
    let id = try visit.parameter()
    let segment = try visit.segment()
    if let own = visit.session.licenses, !own.contains(Identifier(id)) { throw Problem.notFound }
    async let license = visit.client.getIfAllowed("/v1/licenses/\(segment)")
    async let current = visit.client.getIfAllowed("/v1/licenses/\(segment)/usage/current")
    async let alerts = visit.client.getIfAllowed(
      "/v1/alerts", [("license_id", id), ("limit", "20")])
    async let deliveries = visit.client.getIfAllowed(
      "/v1/webhook-deliveries", [("license_id", id), ("limit", "10")])
    async let anomalies = AnomalyMarks.read(visit, from: visit.context.now - 86_400_000 * 62)
    async let periods = visit.client.getIfAllowed(
      "/v1/periods", [("license_id", id), ("limit", "24")])
    let (found, now) = (try await license, try await current)
    if found == nil, visit.caller.customerID != nil { throw Problem.notFound }
    let corrections = now == nil ? [:] : try await corrections(visit, Identifier(id))
    let meters = (now?["meters"].list ?? []).map { meter($0, corrections) }
    let shown = visit.context.value("meter") ?? meters.first?.meter ?? "api_calls"
    let running = meters.first { $0.meter == shown }
    let reading = UsageReading(visit: visit)
    async let period = period(reading, id, running)
    let lines = (try await periods)?["data"].list.map(PeriodPages.line) ?? []
    // The page first shows the running period by day, as the chart beside the limit does.
    let showsPeriod =
      visit.filters("from", "to", "range", "window").isEmpty
      && runningRange(running, now: visit.context.now) != nil
    async let other = showsPeriod ? nil : usage(reading, id, shown, running)
    async let domains = shares(reading, id, running, "domain")
    async let features = shares(reading, id, running, "feature")
    var context = visit.context
    context.asOf = now?["as_of"].time
    context.completeThrough = now?["complete_through"].time
    let days = try await period
    let chart =
      try await other
      ?? LicensePage.Usage(
        meter: shown, window: "day", from: days.from, to: days.to,
        points: days.points.map { closer($0, id, shown, "day", visit) })
    let data = LicensePage.Data(
      id: id, license: found.map(Self.license), meters: meters, period: days.points,
      usage: chart, domains: try await domains, features: try await features,
      periods: lines,
      alerts: (try await alerts)?["data"].list.map(AlertPages.line) ?? [],
      deliveries: (try await deliveries)?["data"].list.map(WebhookPages.delivery) ?? [],
      anomalies: (try await anomalies).marks(
        shown, customer: found?["customer_id"].text ?? ""))
    // An unregistered license is shown if it has usage or alerts.
    if found == nil, meters.isEmpty, data.alerts.isEmpty,
      !data.usage.points.contains(where: { $0.value != 0 })
    {
      throw Problem.notFound("license")
    }
    var answering = visit
    answering.context = context
    return answering.html(LicensePage.make(data, notice: visit.notice, in: context))
  }

  /// The sums of the running period's corrections by hand, by meter. The operation of the API
  /// answers only what is used with them.
  private static func corrections(
    _ visit: PageVisit, _ license: Identifier
  ) async throws -> [Identifier: Int64] {
    let today = visit.context.now / 86_400_000
    return try await visit.request.read {
      try CurrentUsageStore($0).read(license, today: today, daysBack: 0).adjustments
    }
  }

  private static func meter(
    _ meter: PageData, _ corrections: [Identifier: Int64]
  ) -> LicensePage.Meter {
    let projected = meter["projected"]
    return LicensePage.Meter(
      meter: meter["meter"].text ?? "", periodStart: meter["period_start"].time ?? 0,
      periodEnd: meter["period_end"].time ?? 0, used: meter["used"].integer ?? 0,
      limit: meter["limit"].integer,
      projection: projected["quantity"].integer.map {
        Chart.Projection(
          quantity: $0, low: projected["low"].integer ?? $0, high: projected["high"].integer ?? $0)
      }, corrected: corrections[Identifier(meter["meter"].text ?? "")] ?? 0)
  }

  private static func license(_ license: PageData) -> LicensePage.License {
    LicensePage.License(
      customer: license["customer_id"].text ?? "", plan: license["plan"].text ?? "",
      status: license["status"].text ?? "", domains: license["domains"].texts,
      features: license["features"].texts, seats: license["limits"]["seats"].integer,
      isTrial: license["trial"].boolean, overagePolicy: license["overage_policy"].text ?? "",
      thresholds: license["alert_thresholds"].list.compactMap(\.integer),
      anchorDay: license["billing_anchor_day"].integer ?? 1,
      issuedAt: license["issued_at"].time ?? 0, expiresAt: license["expires_at"].time ?? 0,
      limits: license["limits"].members.compactMap { name, value in
        name == "seats"
          ? nil : value.integer.map { (name == "apiCalls" ? "api_calls" : name, $0) }
      })
  }

  /// The whole hours of the running period so far, and the hour that runs.
  private static func runningRange(
    _ meter: LicensePage.Meter?, now: Int64
  ) -> (from: Int64, to: Int64)? {
    guard let meter else { return nil }
    let hour: Int64 = 3_600_000
    let end = min(meter.periodEnd, now - now % hour + hour)
    return meter.periodStart < end ? (meter.periodStart, end) : nil
  }

  private static func period(
    _ reading: UsageReading, _ id: String, _ meter: LicensePage.Meter?
  ) async throws -> UsageReading.Answer {
    guard let meter, let range = runningRange(meter, now: reading.visit.context.now) else {
      return UsageReading.Answer()
    }
    return try await reading.series(
      license: id, meter: meter.meter, window: "day",
      range: [("from", TimeText.write(range.from)), ("to", TimeText.write(range.to))])
  }

  private static func shares(
    _ reading: UsageReading, _ id: String, _ meter: LicensePage.Meter?, _ dimension: String
  ) async throws -> [LicensePage.Share] {
    guard let meter, meter.periodStart < meter.periodEnd else { return [] }
    return try await reading.shares(
      license: id, meter: meter.meter, by: dimension, from: meter.periodStart, to: meter.periodEnd)
  }

  /// Reads the range from the address, with windows of a size that a person can look at.
  private static func usage(
    _ reading: UsageReading, _ id: String, _ meter: String, _ running: LicensePage.Meter?
  ) async throws -> LicensePage.Usage {
    let visit = reading.visit
    var range = visit.filters("from", "to")
    var window = "day"
    if range.count < 2 {
      let name = visit.context.value("range") ?? "current_period"
      range = self.range(name, running, now: visit.context.now)
      if name == "last_24h" || name == "last_7d" { window = "hour" }
    }
    window = visit.context.value("window") ?? window
    do {
      let found = try await reading.series(license: id, meter: meter, window: window, range: range)
      return LicensePage.Usage(
        meter: meter, window: window, from: found.from, to: found.to,
        points: found.points.map { closer($0, id, meter, window, visit) })
    } catch let problem as Problem where problem.status == .badRequest {
      let details = problem.errors.map { "\($0.parameter): \($0.detail)" }
      return LicensePage.Usage(
        meter: meter, window: window, from: 0, to: 0, points: [],
        problem: details.isEmpty ? problem.detail : details.joined(separator: " "))
    }
  }

  /// The named range. The running period is shown as far as it has come.
  private static func range(
    _ name: String, _ running: LicensePage.Meter?, now: Int64
  ) -> [PageClient.Parameter] {
    guard name == "current_period" else { return [("range", name)] }
    guard let bounds = runningRange(running, now: now) else { return [("range", "last_30d")] }
    return [("from", TimeText.write(bounds.from)), ("to", TimeText.write(bounds.to))]
  }

  /// Links a window to its parts, from months through days, hours and minutes to events.
  private static func closer(
    _ point: Chart.Point, _ id: String, _ meter: String, _ window: String, _ visit: PageVisit
  ) -> Chart.Point {
    let finer = ["month": "day", "period": "day", "day": "hour", "hour": "minute"]
    let range: [PageContext.Parameter] = [
      ("from", TimeText.write(point.start)), ("to", TimeText.write(point.end)),
    ]
    var point = point
    if let finer = finer[window] {
      point.href =
        visit.context.url(
          "/licenses/\(PercentEncoding.encode(id))",
          [("meter", meter)] + range + [("window", finer)])
        + "#usage"
    } else if window == "minute", visit.session.kind == .vendor {
      point.href = visit.context.url(
        "/events", [("license_id", id), ("meter", meter)] + range)
    }
    return point
  }

  // MARK: Changes

  private static func step(
    _ visit: PageVisit, _ step: String, _ done: String
  ) async throws -> APIAnswer {
    _ = try await visit.client.send(
      .post, "/v1/licenses/\(visit.segment())/\(step)", key: visit.form.key)
    return visit.redirect(to: "/licenses/\(try visit.segment())", done: done)
  }

  private static func setLimits(_ visit: PageVisit) async throws -> APIAnswer {
    var limits: [(name: String, quantity: Int64?)] = []
    func number(_ name: String) throws(Problem) -> Int64? {
      guard let text = visit.form[name] else { return nil }
      guard let value = Int64(text), value >= 0 else {
        throw Problem.badParameter(name, "It must be a whole number, 0 or more.")
      }
      return value
    }
    for field in visit.form.fields where field.name.hasPrefix("limit.") {
      limits.append((apiName(String(field.name.dropFirst(6))), try number(field.name)))
    }
    if let meter = visit.form["new_meter"] {
      guard let quantity = try number("new_limit") else {
        throw Problem.badParameter("new_limit", "Say how much of \(meter) is allowed.")
      }
      limits.append((apiName(meter), quantity))
    }
    let thresholds = try (visit.form["alert_thresholds"] ?? "")
      .split { ", ;%".contains($0) }.map { text throws(Problem) -> Int64 in
        guard let value = Int64(text) else {
          throw Problem.badParameter("alert_thresholds", "Write percentages such as 80, 100.")
        }
        return value
      }
    _ = try await visit.client.send(.patch, "/v1/licenses/\(visit.segment())") { json in
      json.name("limits")
      json.beginObject()
      for limit in limits {
        json.name(limit.name)
        if let quantity = limit.quantity { json.integer(quantity) } else { json.null() }
      }
      json.endObject()
      if let policy = visit.form["overage_policy"] {
        json.name("overage_policy")
        json.text(policy)
      }
      json.name("alert_thresholds")
      json.beginArray()
      for threshold in thresholds { json.integer(threshold) }
      json.endArray()
    }
    return visit.redirect(to: "/licenses/\(try visit.segment())", done: "limits")
  }

  /// The name of the meter in `limits`.
  private static func apiName(_ meter: String) -> String {
    meter == "api_calls" ? "apiCalls" : meter
  }
}
