package import Billing
import Metering
package import PostgresStore

/// Exports usage to Stripe. It settles events in doubt, plans new events, and sends them.
///
/// It guarantees the following, even if it is interrupted at any line:
/// - An event is stored, and its doubt noted, before it is sent.
/// - Within 24 hours an event without an answer is sent again under its identifier, and counts
///   once.
/// - After that it is never sent again blindly. Stripe's own sum of the hour tells whether it
///   arrived.
/// - Only one export runs at a time for each database.
package struct StripeExporter: Sendable {
  package let database: StripeDatabase
  package let client: StripeClient
  /// Called with the number of finished steps, the total, and the kind of step.
  package var progress: @Sendable (Int64, Int64, String) -> Void = { _, _, _ in }

  private static let eventsInAPage = 256

  package init(
    database: StripeDatabase, client: StripeClient,
    progress: @escaping @Sendable (Int64, Int64, String) -> Void = { _, _, _ in }
  ) {
    self.database = database
    self.client = client
    self.progress = progress
  }

  /// - Parameters:
  ///   - through: only hours that end by this time are exported, in milliseconds since 1970. Nil
  ///     stands for all complete hours.
  ///   - needsLog: whether only the log decides what is complete, as for the close of periods.
  ///   - context: the actor, for the audit log.
  ///   - planned: called when all events are stored and before the first one is sent.
  /// - Throws: `StripeExportRefusal` or `PostgresError`. If sending stops early, the report says
  ///   why.
  package func export(
    mode: StripeMode, through: Int64?, needsLog: Bool, isDryRun: Bool = false,
    by context: AuditContext, waitSeconds: Int = 10,
    planned: @escaping @Sendable (StripeExportReport) -> Void = { _ in }
  ) async throws -> StripeExportReport {
    guard !client.settings.meters.meters.isEmpty else { throw StripeExportRefusal.noMeters }
    if isDryRun { return try await plan(mode, through, needsLog, isDryRun: true, context) }
    return try await locked(waitSeconds: waitSeconds) {
      try await checkMeters(mode)
      try await settle()
      var report = try await plan(mode, through, needsLog, isDryRun: false, context)
      planned(report)
      let (sent, stop) = try await send()
      report.sent = sent
      report.problem = stop
      return try await finished(report)
    }
  }

  /// Finishes an earlier export without planning anything new.
  package func resume() async throws -> (sent: Int64, problem: String?) {
    guard try await database.run({ try StripeEventStore($0).hasOpen() }) else { return (0, nil) }
    return try await locked(waitSeconds: 0) {
      try await settle()
      return try await send()
    }
  }

  private func locked<T>(waitSeconds: Int, _ body: () async throws -> T) async throws -> T {
    let start = ContinuousClock.now
    while try await !database.run({ try StripeExportStore($0).tryLock() }) {
      guard start.duration(to: .now) < .seconds(waitSeconds) else {
        throw StripeExportRefusal.underway
      }
      try await Task.sleep(for: .milliseconds(100))
    }
    do {
      let value = try await body()
      try await database.run { try StripeExportStore($0).unlock() }
      return value
    } catch {
      // The first error is the one to report. If the connection is lost, so is the lock.
      try? await database.run { try StripeExportStore($0).unlock() }
      throw error
    }
  }

  /// Nothing is checked if the key may not read meters, or if the server has none.
  private func checkMeters(_ mode: StripeMode) async throws {
    let meters: [String: StripeMeterPage.Meter]
    do {
      meters = try await StripeReads(client: client).meters()
    } catch let error as StripeReads.Failure {
      switch error {
      case .forbidden, .notThere: return
      case .failed(let why): throw StripeExportRefusal.stripe(why)
      }
    }
    for (_, name) in client.settings.meters.eventNames.sorted(by: { $0.key < $1.key }) {
      guard let meter = meters[name] else {
        throw StripeExportRefusal.meters(
          "Stripe has no meter with the event name \(name), so create it there first")
      }
      if let problem = meter.problem(mode) { throw StripeExportRefusal.meters(problem) }
    }
  }

  // MARK: Planning

  private func plan(
    _ mode: StripeMode, _ wanted: Int64?, _ needsLog: Bool, isDryRun: Bool,
    _ context: AuditContext
  ) async throws -> StripeExportReport {
    let complete = try await database.run { try Self.completeThrough($0, needsLog: needsLog) }
    let hour: Int64 = 3_600_000
    let through = min(wanted ?? complete, complete)
    var report = StripeExportReport(
      mode: mode, through: through - (through % hour + hour) % hour, completeThrough: complete)
    let planner = StripePlanner(
      database: database, meters: client.settings.meters, mode: mode,
      through: report.through / 1_000, isDryRun: isDryRun)
    try await planner.plan(&report) { progress($0, 0, "Planning") }
    if isDryRun {
      report.isFinished = true
      return report
    }
    let audited = report
    try await database.run { try Self.audit(audited, $0, context) }
    return report
  }

  /// - Throws: `StripeExportRefusal.notReady`.
  private static func completeThrough(
    _ connection: PostgresConnection, needsLog: Bool
  ) throws -> Int64 {
    let missing = try UsageStore(connection).standing().missing
    if missing > 0 {
      throw StripeExportRefusal.notReady(
        code: "missing",
        detail: "\(missing) events that producers have sent were never counted; "
          + "see: meterctl status, meterctl reconcile")
    }
    let question = ClosePreviewStore.Question(
      endingBefore: "", customer: nil, graceSeconds: 0, completeThrough: nil, needsLog: needsLog)
    guard let complete = try ClosePreviewStore(connection).completeThrough(question) else {
      throw StripeExportRefusal.notReady(
        code: "lag",
        detail: "it is unknown up to which time the numbers are complete (see meterctl status)")
    }
    return complete
  }

  private static func audit(
    _ report: StripeExportReport, _ connection: PostgresConnection, _ context: AuditContext
  ) throws {
    let after =
      #"{"mode":"\#(report.mode.rawValue)","through":"\#(TimeText.write(report.through))","#
      + #""planned":\#(report.planned),"planned_quantity":\#(report.plannedQuantity)}"#
    try AuditStore(connection).record(
      AuditedChange("exports.stripe", "export", "stripe", after: after), by: context)
  }

  // MARK: Sending

  /// - Returns: how many events Stripe accepted, and why the others were not tried.
  private func send() async throws -> (Int64, String?) {
    let total = try await database.run { try StripeEventStore($0).countOpen() }
    var (sent, done, after): (Int64, Int64, StripeEventStore.Open?) = (0, 0, nil)
    while true {
      try Task.checkCancellation()
      let last = after
      let (page, now) = try await database.run { connection in
        (
          try StripeEventStore(connection).open(after: last, limit: Self.eventsInAPage),
          try StripeExportStore(connection).now()
        )
      }
      guard let next = page.last else { return (sent, nil) }
      let errands = page.map {
        ($0, $0.event?.errand(doubtSince: $0.doubtSince, now: now) ?? .wait)
      }
      let withdrawn = errands.filter { $0.1 == .withdraw }.map {
        StripeEventStore.Result(identifier: $0.0.identifier, state: .lost)
      }
      let sending = errands.filter { $0.1 == .send }.map(\.0)
      let identifiers = sending.map(\.identifier)
      try await database.transaction { connection in
        let store = StripeEventStore(connection)
        try store.record(withdrawn)
        try store.beginSending(identifiers)
      }
      let outcome = await StripeSender(client: client).send(sending)
      try await database.run { try StripeEventStore($0).record(outcome.results) }
      sent += Int64(outcome.results.filter { $0.state == .accepted }.count)
      done += Int64(page.count)
      progress(done, total, "Sending")
      if let stop = outcome.stop { return (sent, stop) }
      guard page.count == Self.eventsInAPage else { return (sent, nil) }
      after = next
    }
  }

  private func finished(_ report: StripeExportReport) async throws -> StripeExportReport {
    var report = report
    (report.pending, report.counts, report.unlinkedCustomers) = try await database.run {
      let store = StripeExportStore($0)
      return (
        try StripeEventStore($0).countOpen(), try store.counts(),
        try store.unlinkedCustomers(limit: 100)
      )
    }
    report.isFinished = true
    return report
  }

  // MARK: Settling

  /// Events in doubt whose identifiers Stripe may have forgotten, by place and hour. Stripe has one
  /// sum for each.
  private struct Doubt: Hashable {
    let eventName: Identifier
    let customer: Identifier
    let hour: Int64
  }

  private func settle() async throws {
    let doubts = try await doubts()
    guard !doubts.isEmpty else { return }
    let reads = StripeReads(client: client)
    do {
      let meters = try await reads.meters()
      for (place, events) in doubts {
        guard let meter = meters[place.eventName.string] else { continue }
        let sums = try await reads.sums(
          meter: meter.id, customer: place.customer.string, first: place.hour,
          end: place.hour + 3_600)
        try await settle(events, place, stripe: sums[place.hour] ?? .some(0))
      }
    } catch let error as StripeReads.Failure {
      throw StripeExportRefusal.stripe("events in doubt could not be settled: \(error)")
    }
  }

  private func doubts() async throws -> [Doubt: [StripeEventStore.Open]] {
    var doubts: [Doubt: [StripeEventStore.Open]] = [:]
    var after: StripeEventStore.Open?
    while true {
      let last = after
      let (page, now) = try await database.run { connection in
        (
          try StripeEventStore(connection).open(after: last, limit: 1_000),
          try StripeExportStore(connection).now()
        )
      }
      for event in page where event.event?.errand(doubtSince: event.doubtSince, now: now) == .settle
      {
        let place = Doubt(
          eventName: Identifier(event.eventName), customer: Identifier(event.stripeCustomerID),
          hour: event.hour)
        doubts[place, default: []].append(event)
      }
      guard page.count == 1_000, let next = page.last else { return doubts }
      after = next
    }
  }

  private func settle(
    _ events: [StripeEventStore.Open], _ place: Doubt, stripe: Int64?
  ) async throws {
    let at = StripeExportReads.Place(
      eventName: place.eventName.string, stripeCustomerID: place.customer.string,
      first: place.hour, end: place.hour + 3_600)
    try await database.transaction { connection in
      let expected = try StripeExportReads(connection).expected(at).first
      // Another event of the hour may still be sent again, so its answer must come first.
      guard expected?.doubtful == events.reduce(0, { $0 + $1.value }) else { return }
      let verdict = StripeSettlement.of(
        mode: events.first?.event?.mode ?? .sum, accepted: expected?.accepted ?? 0,
        values: events.map(\.value), stripe: stripe)
      try StripeEventStore(connection).record(
        events.map { event in
          switch verdict {
          case .arrived: .init(identifier: event.identifier, state: .accepted)
          case .lost: .init(identifier: event.identifier, state: .lost)
          case .unclear:
            .init(
              identifier: event.identifier, state: .unsettled,
              error: "Stripe's sum is \(stripe.map(String.init) ?? "not a whole number"), but "
                + "without the event of \(event.value) it should be \(expected?.accepted ?? 0)")
          }
        })
    }
  }
}
