import BillingPages
import HTTPTypes
import Metering
import PostgresStore

/// `/` shows whether everything is counted, how much is used, and which licenses need attention.
enum OverviewPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [pages.get("/") { try await show($0) }]
  }

  private static func show(_ visit: PageVisit) async throws -> APIAnswer {
    async let status = visit.client.getIfAllowed("/v1/status")
    async let usage = usageIfAllowed(visit)
    async let near = nearLimits(visit)
    async let anomalies = AnomalyMarks.read(visit, from: visit.context.now - 86_400_000 * 2)
    async let alerts = visit.client.getIfAllowed("/v1/alerts", [("limit", "8")])
    async let endpoints = visit.client.getIfAllowed("/v1/webhook-endpoints", [("limit", "500")])
    async let due = visit.client.getIfAllowed(
      "/v1/periods", [("status", "due"), ("limit", String(mostDue))])
    var (counts, others, frame) = try await usage
    let unusual = try await anomalies
    for i in counts.indices { counts[i].marks = unusual.marks(counts[i].meter) }
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
          health: health, usage: counts, otherMeters: others, nearLimits: try await near,
          alerts: (try await alerts)?["data"].list.map(AlertPages.line) ?? [],
          failing: Array(failing.prefix(10)),
          duePeriods: dueList.map { Int64($0["data"].list.count) },
          hasMoreDue: dueList.map { !$0["next"].isAbsent } ?? false),
        in: visit.context))
  }

  /// The overview counts due periods up to this number.
  private static let mostDue = 200

  /// Returns nil for readers who may not see the whole installation.
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

  private typealias Usage = (
    counts: [OverviewPage.Usage], otherMeters: Int64, frame: UsageReading.Answer?
  )

  private static func usageIfAllowed(_ visit: PageVisit) async throws -> Usage {
    do {
      return try await usage(visit)
    } catch let problem as Problem where [.forbidden, .notFound].contains(problem.status) {
      return ([], 0, nil)
    }
  }

  private static func usage(_ visit: PageVisit) async throws -> Usage {
    guard visit.caller.may(.usageRead) else { return ([], 0, nil) }
    let spans = OverviewSpans(now: visit.context.now, days: ZoneDays(zone: visit.context.zone))
    let read = try await visit.request.read(spans.read(customer: visit.caller.customerID))
    // What is used for the first time in this hour is shown, and so is what has just stopped.
    let counts = read.meters.filter { _, sums in sums.values.contains { $0 != 0 } }
      .map { meter, sums in spans.usage(meter, sums) }
      .sorted { $0.meter < $1.meter }
    guard !read.meters.isEmpty else { return (counts, 0, nil) }
    let frame = UsageReading.Answer(asOf: read.asOf, completeThrough: read.completeThrough)
    return (counts, read.otherMeters, frame)
  }
}
