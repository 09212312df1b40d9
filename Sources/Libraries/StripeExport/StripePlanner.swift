import Billing
import Metering
import PostgresStore

/// Decides hour by hour what to send and stores it, for a few customers at a time.
struct StripePlanner: Sendable {
  let database: StripeDatabase
  let meters: StripeMeters
  let mode: StripeMode
  /// Hours that end by this time are considered, in seconds since 1970.
  let through: Int64
  let isDryRun: Bool

  private static let customersInABatch = 50
  private static let hoursInAPage = 5_000
  /// How many events a dry run lists.
  private static let listed = 1_000

  /// - Parameter report: receives the planned numbers.
  func plan(
    _ report: inout StripeExportReport, progress: (Int64) -> Void
  ) async throws {
    let (now, first) = try await database.run { connection in
      let store = StripeExportStore(connection)
      return (try store.now(), try store.firstHour())
    }
    let range = StripeExportStore.Range(
      first: first, end: through, firstSendable: now - StripeEvent.sendableSeconds)
    var after = ""
    while true {
      let last = after
      let customers = try await database.run {
        try StripeExportStore($0).customers(after: last, limit: Self.customersInABatch)
      }
      try await plan(customers, range, now, &report)
      progress(report.planned)
      guard customers.count == Self.customersInABatch, let next = customers.last else { return }
      after = next
      try Task.checkCancellation()
    }
  }

  private func plan(
    _ customers: [String], _ range: StripeExportStore.Range, _ now: Int64,
    _ report: inout StripeExportReport
  ) async throws {
    let names = meters.meters
    var after: StripeExportStore.Hour?
    while true {
      let last = after
      let (count, next, events) = try await database.transaction { [self] connection in
        let store = StripeExportStore(connection)
        let hours = try store.hours(
          of: customers, meters: names, range, after: last, limit: Self.hoursInAPage)
        let decided = hours.map { ($0, step($0, now)) }
        if !isDryRun { try store.store(decided.compactMap(Self.plan)) }
        return (hours.count, hours.last, Self.noted(decided))
      }
      report.planned += Int64(events.sent.count)
      for event in events.sent {
        report.plannedQuantity = Self.sum(report.plannedQuantity, event.value)
      }
      if isDryRun {
        report.listed += events.sent.prefix(Self.listed - report.listed.count)
        for status in events.marked { report.counts[status.rawValue, default: 0] += 1 }
        Self.note(events.unlinked, &report)
      }
      guard count == Self.hoursInAPage else { return }
      after = next
    }
  }

  private func step(_ hour: StripeExportStore.Hour, _ now: Int64) -> StripeHour.Step {
    guard let name = meters.eventNames[hour.meter] else { return .nothing }
    return StripeHour(
      customer: hour.customer, meter: hour.meter, hour: hour.hour, quantity: hour.quantity,
      stripeCustomerID: hour.stripeCustomerID, isShared: hour.isShared,
      known: hour.status.flatMap(StripeStatus.init(rawValue:)).map { status in
        StripeHour.Known(
          status: status, mode: hour.mode.flatMap(StripeMode.init(rawValue:)),
          stripeCustomerID: hour.sentTo, eventName: hour.eventName, accepted: hour.accepted,
          revision: hour.revision, hasOpenEvent: hour.hasOpenEvent)
      }
    ).step(mode: mode, eventName: name, now: now)
  }

  private static func plan(
    _ hour: StripeExportStore.Hour, _ step: StripeHour.Step
  ) -> StripeExportStore.Plan? {
    var plan = StripeExportStore.Plan(
      customer: hour.customer, meter: hour.meter, hour: hour.hour,
      status: StripeStatus.pending.rawValue, quantity: hour.quantity, event: nil)
    switch step {
    case .nothing: return nil
    case .mark(let status): plan.status = status.rawValue
    case .send(let event):
      plan.event = StripeExportStore.Event(
        identifier: event.identifier, revision: event.revision, mode: event.mode.rawValue,
        stripeCustomerID: event.stripeCustomerID, eventName: event.eventName, value: event.value)
    }
    return plan
  }

  private struct Noted: Sendable {
    var sent: [StripeEvent] = []
    var marked: [StripeStatus] = []
    var unlinked: [String] = []
  }

  private static func noted(_ decided: [(StripeExportStore.Hour, StripeHour.Step)]) -> Noted {
    var noted = Noted()
    for (hour, step) in decided {
      switch step {
      case .nothing: break
      case .send(let event): noted.sent.append(event)
      case .mark(.sent): break
      case .mark(let status):
        noted.marked.append(status)
        if status == .unlinked { noted.unlinked.append(hour.customer.string) }
      }
    }
    return noted
  }

  /// Customers come in the order of their ids.
  private static func note(_ customers: [String], _ report: inout StripeExportReport) {
    for customer in customers where report.unlinkedCustomers.count < 100 {
      if report.unlinkedCustomers.last.map({ !$0.utf8.elementsEqual(customer.utf8) }) ?? true {
        report.unlinkedCustomers.append(customer)
      }
    }
  }

  private static func sum(_ a: Int64, _ b: Int64) -> Int64 {
    let (sum, isOver) = a.addingReportingOverflow(b)
    return isOver ? .max : sum
  }
}
