import Billing
package import Metering
package import PostgresStore

/// Compares every exported hour with Stripe's own sums.
package struct StripeReconciler: Sendable {
  package let database: StripeDatabase
  package let client: StripeClient

  package init(database: StripeDatabase, client: StripeClient) {
    self.database = database
    self.client = client
  }

  /// One hour for which Stripe's sum differs from what was sent.
  package struct Difference: Sendable, Equatable {
    package var eventName: String
    package var stripeCustomerID: String
    /// Seconds since 1970.
    package var hour: Int64
    /// The customer. Nil if nothing was exported for this hour.
    package var customer: Identifier?
    package var meter: String?
    package var sent: Int64
    /// The quantity of events without an answer, which may be in Stripe's number.
    package var doubtful: Int64
    /// Stripe's sum. Nil if it is not a whole number.
    package var stripe: Int64?
    /// Whether something was sent less than an hour ago. Stripe adds up within minutes, so its sum
    /// may not include that yet.
    package var isRecent: Bool
    /// Whether Stripe's number was stored in place of what was sent.
    package var isRepaired = false
  }

  package struct Report: Sendable {
    package var hours: Int64 = 0
    package var equal: Int64 = 0
    package var differences: [Difference] = []
    /// The number of all differences, including those that are not listed.
    package var different: Int64 = 0
    package var repaired: Int64 = 0

    package init() {}
  }

  private static let recentSeconds: Int64 = 3_600
  private static let placesInAPage = 200

  /// - Parameters:
  ///   - from, to: a half-open range of whole hours in seconds since 1970. Nil stands for
  ///     everything that was exported.
  ///   - isRepairing: takes Stripe's number for what was sent, so that the next export sends what
  ///     is
  ///     lacking there, and lists what is too much as a credit.
  ///   - progress: called with the number of hours that were compared.
  /// - Throws: `StripeExportRefusal` or `PostgresError`.
  package func run(
    from: Int64?, to: Int64?, maxDifferences: Int, isRepairing: Bool, by context: AuditContext,
    progress: (Int64) -> Void
  ) async throws -> Report {
    var report = Report()
    let reads = StripeReads(client: client)
    do {
      let meters = try await reads.meters()
      var after: StripeExportReads.Place?
      while true {
        let last = after
        let places = try await database.run {
          try StripeExportReads($0).places(
            from: from, to: to, after: last, limit: Self.placesInAPage)
        }
        for place in places {
          guard let meter = meters[place.eventName] else {
            throw StripeExportRefusal.meters(
              "Stripe has no meter with the event name \(place.eventName)")
          }
          let sums = try await reads.sums(
            meter: meter.id, customer: place.stripeCustomerID, first: from ?? place.first,
            end: to ?? place.end)
          try await compare(place, sums, &report, maxDifferences, isRepairing, context)
          progress(report.hours)
        }
        guard places.count == Self.placesInAPage, let next = places.last else { return report }
        after = next
      }
    } catch let error as StripeReads.Failure {
      throw StripeExportRefusal.stripe("\(error)")
    }
  }

  private func compare(
    _ place: StripeExportReads.Place, _ sums: [Int64: Int64?], _ report: inout Report,
    _ maxDifferences: Int, _ isRepairing: Bool, _ context: AuditContext
  ) async throws {
    let (expected, now) = try await database.run {
      (try StripeExportReads($0).expected(place), try StripeExportStore($0).now())
    }
    let known = Set(expected.map(\.hour))
    var found: [Difference] = []
    for row in expected {
      report.hours += 1
      let stripe: Int64? = sums[row.hour] ?? .some(0)
      if stripe == row.accepted, row.doubtful == 0 {
        report.equal += 1
        continue
      }
      let isOne = row.rows == 1
      found.append(
        Difference(
          eventName: place.eventName, stripeCustomerID: place.stripeCustomerID, hour: row.hour,
          customer: isOne ? row.customer : nil, meter: isOne ? row.meter : nil,
          sent: row.accepted, doubtful: row.doubtful, stripe: stripe,
          isRecent: now - row.updatedAt < Self.recentSeconds))
    }
    // These are sums that somebody else sends for the same customer and meter.
    for (hour, stripe) in sums.sorted(by: { $0.key < $1.key })
    where !known.contains(hour) && stripe != .some(0) {
      report.hours += 1
      found.append(
        Difference(
          eventName: place.eventName, stripeCustomerID: place.stripeCustomerID, hour: hour,
          customer: nil, meter: nil, sent: 0, doubtful: 0, stripe: stripe, isRecent: false))
    }
    for var difference in found {
      if isRepairing, try await repair(difference, context) {
        difference.isRepaired = true
        report.repaired += 1
      }
      report.different += 1
      if report.differences.count < maxDifferences { report.differences.append(difference) }
    }
  }

  /// Repairs an hour. Returns false if the right number is unknown, because Stripe may still be
  /// adding or several of our customers share the hour.
  private func repair(_ difference: Difference, _ context: AuditContext) async throws -> Bool {
    guard let customer = difference.customer, let meter = difference.meter,
      let stripe = difference.stripe, stripe >= 0, !difference.isRecent, difference.doubtful == 0
    else { return false }
    return try await database.transaction { connection in
      guard
        try StripeExportReads(connection).take(
          customer: customer, meter: meter, hour: difference.hour, accepted: stripe)
      else { return false }
      try AuditStore(connection).record(
        AuditedChange(
          "exports.stripe_repair", "export",
          "\(meter) \(TimeText.write(difference.hour * 1_000))", customerID: customer.string,
          before: #"{"sent_quantity":\#(difference.sent)}"#,
          after: #"{"sent_quantity":\#(stripe)}"#), by: context)
      return true
    }
  }
}
