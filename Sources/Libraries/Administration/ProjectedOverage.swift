import Billing
package import Metering
package import PostgresStore

/// A license that will probably exceed a limit before its period ends, by an estimate from its own
/// past weeks.
package struct ProjectedOverage: Sendable, Equatable {
  package var licenseID: Identifier
  package var customerID: Identifier
  package var meter: Identifier
  /// The period as a half-open range of days since 1970.
  package var periodStart: Int64
  package var periodEnd: Int64
  package var used: Int64
  package var limit: Int64
  /// The estimate for the end of the period, and its probable range.
  package var quantity: Int64
  package var low: Int64
  package var high: Int64

  package var overage: Int64 { quantity - limit }

  /// How many limits are considered, beginning with the highest pace.
  package static let most = 1_000

  /// The licenses that are expected to exceed a limit. The one furthest beyond its limit comes
  /// first.
  ///
  /// - Parameters:
  ///   - customer: nil for all customers.
  ///   - after: the last row that was read before. Estimates move, so a row may pass it meanwhile.
  ///   - limit: at most `most`.
  package static func list(
    _ connection: PostgresConnection, customer: String?, after: Place? = nil, limit: Int
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
      found.filter { row in row.overage > 0 && after.map { $0 < row.place } ?? true }
        .sorted { $0.place < $1.place }
        .prefix(limit))
  }

  /// The place of a row in the list.
  package struct Place: Comparable, Sendable {
    package let overage: Int64
    package let licenseID: Identifier
    package let meter: Identifier

    package init(overage: Int64, licenseID: Identifier, meter: Identifier) {
      self.overage = overage
      self.licenseID = licenseID
      self.meter = meter
    }

    package static func < (left: Place, right: Place) -> Bool {
      (right.overage, left.licenseID, left.meter) < (left.overage, right.licenseID, right.meter)
    }
  }

  package var place: Place { Place(overage: overage, licenseID: licenseID, meter: meter) }
}
