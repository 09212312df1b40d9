import Billing
package import Metering
package import PostgresStore

/// Who will exceed a limit before its period ends, by an estimate from the license's own weeks.
package struct ProjectedOverage: Sendable, Equatable {
  package var licenseID: Identifier
  package var customerID: Identifier
  package var meter: Identifier
  /// Days since 1970, half-open.
  package var periodStart: Int64
  package var periodEnd: Int64
  package var used: Int64
  package var limit: Int64
  /// At the end of the period, and the range that it likely falls into.
  package var quantity: Int64
  package var low: Int64
  package var high: Int64

  package var overage: Int64 { quantity - limit }

  /// How many limits are looked at, those with the highest pace first.
  package static let most = 1_000

  /// Those that are expected beyond their limit, the furthest first.
  ///
  /// - Parameters:
  ///   - customer: nil: of all customers.
  ///   - limit: at most `most`.
  package static func list(
    _ connection: PostgresConnection, customer: String?, limit: Int
  ) throws(PostgresError) -> [ProjectedOverage] {
    let now = try UsageReads(connection).serverMilliseconds() / 1_000
    let candidates = try ProjectionReads(connection).candidates(
      customer: customer, daysBack: UsageProjection.daysBack, limit: most)
    let found = candidates.map { candidate in
      let projection = UsageProjection(
        days: candidate.days, firstDay: candidate.days.keys.min() ?? now / 86_400, now: now,
        periodEnd: candidate.periodEnd, used: candidate.used)
      return ProjectedOverage(
        licenseID: candidate.licenseID, customerID: candidate.customerID, meter: candidate.meter,
        periodStart: candidate.periodStart, periodEnd: candidate.periodEnd, used: candidate.used,
        limit: candidate.limit, quantity: projection.quantity, low: projection.low,
        high: projection.high)
    }
    return Array(
      found.filter { $0.overage > 0 }
        .sorted { ($1.overage, $0.licenseID, $0.meter) < ($0.overage, $1.licenseID, $1.meter) }
        .prefix(limit))
  }
}
