import BillingPages
import HTTPTypes
import Metering
import PostgresStore

/// `/`: is everything counted, how much is used, who needs attention.
enum OverviewPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [pages.get("/") { try await show($0) }]
  }

  private static func show(_ visit: PageVisit) async throws -> APIAnswer {
    async let status = visit.client.getIfAllowed("/v1/status")
    async let usage = usageIfAllowed(visit)
    async let near = nearLimits(visit)
    async let alerts = visit.client.getIfAllowed("/v1/alerts", [("limit", "8")])
    async let endpoints = visit.client.getIfAllowed("/v1/webhook-endpoints", [("limit", "500")])
    async let due = visit.client.getIfAllowed(
      "/v1/periods", [("status", "due"), ("limit", "1000")])
    let (counts, frame) = try await usage
    var visit = visit
    let health = health(try await status, frame)
    visit.context.asOf = frame?.asOf
    visit.context.completeThrough = health?.completeThrough
    let failing = ((try await endpoints)?["data"].list ?? []).map(WebhookPages.line)
      .filter { $0.status == "disabled" || $0.failures > 0 }
    let dueList = try await due
    return visit.html(
      OverviewPage.make(
        OverviewPage.Data(
          health: health, usage: counts, nearLimits: try await near,
          alerts: (try await alerts)?["data"].list.map(AlertPages.line) ?? [],
          failing: Array(failing.prefix(10)),
          duePeriods: dueList.map { Int64($0["data"].list.count) },
          hasMoreDue: dueList.map { !$0["next"].isAbsent } ?? false),
        in: visit.context))
  }

  /// Nil for readers who may not see the whole installation.
  static func health(_ status: PageData?, _ usage: UsageReading.Answer?) -> Health? {
    guard let status else { return nil }
    let halts = status["halted_partitions"].list.map { halt in
      Health.Halt(
        topic: halt["topic"].text ?? "", partition: halt["partition"].integer ?? 0,
        reason: halt["reason"].text ?? "", remedy: halt["remedy"].text)
    }
    return Health(
      lag: status["lag"].integer,
      completeThrough: status["complete_through"].time ?? usage?.completeThrough,
      missing: status["missing"].integer ?? 0,
      deadLetters: status["dead_letters"]["open"].integer ?? 0, halts: halts,
      hasUsage: usage != nil, logProblem: status["kafka"].text)
  }

  private static func nearLimits(_ visit: PageVisit) async throws -> [LicenseUse] {
    guard visit.caller.may(.usageRead) else { return [] }
    let customer = visit.caller.customerID
    return try await visit.request.read {
      try PageReads($0).nearLimits(percent: 80, customer: customer, limit: 12)
    }.map(LicensePages.use)
  }

  // MARK: Usage

  private static func usageIfAllowed(
    _ visit: PageVisit
  ) async throws -> (counts: [OverviewPage.Usage], frame: UsageReading.Answer?) {
    do {
      return try await usage(visit)
    } catch let problem as Problem where [.forbidden, .notFound].contains(problem.status) {
      return ([], nil)
    }
  }

  private static func usage(
    _ visit: PageVisit
  ) async throws -> (counts: [OverviewPage.Usage], frame: UsageReading.Answer?) {
    guard visit.caller.may(.usageRead) else { return ([], nil) }
    let reading = UsageReading(visit: visit)
    let days = ZoneDays(zone: visit.context.zone)
    let now = visit.context.now
    let hour = now - now % 3_600_000
    // Within the last days minutes are kept; months end at a whole hour.
    let minute = now - now % 60_000
    let midnight = days.midnight(now)
    let yesterday = days.midnight(midnight - 43_200_000)
    let month = days.monthStart(now)
    let lastMonth = days.monthStart(month - 43_200_000)
    async let hours = reading.byMeter(
      [("range", "last_24h"), ("fill", "zero")], window: "hour", compares: true)
    async let today = reading.totals(from: midnight, to: minute)
    async let before = reading.totals(from: yesterday, to: yesterday + minute - midnight)
    async let thisMonth = reading.totals(from: month, to: hour)
    async let monthBefore = reading.totals(
      from: lastMonth, to: min(lastMonth + hour - month, month))
    let (totals, earlier) = (try await today, try await before)
    let (months, monthsBefore) = (try await thisMonth, try await monthBefore)
    let found = try await hours
    let counts = found.filter { _, usage in usage.points.contains { $0.value != 0 } }
      .map { meter, usage in
        OverviewPage.Usage(
          meter: meter, today: totals[meter] ?? 0, yesterday: earlier[meter] ?? 0,
          month: months[meter] ?? 0, lastMonth: monthsBefore[meter] ?? 0, hours: usage.points,
          from: usage.from, to: usage.to)
      }
    return (counts, found.first?.usage)
  }
}
