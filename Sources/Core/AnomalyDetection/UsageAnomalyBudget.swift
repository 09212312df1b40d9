/// Chooses which of the anomalies that begin in the same ten minutes are reported.
///
/// An outage stops every customer at the same time. Instead of a thousand alerts, the vendor then
/// gets those of the meters and of the largest customers, each with the number of all affected
/// customers.
package enum UsageAnomalyBudget {
  /// The most customers that are reported in one direction for the same ten minutes.
  package static let customers = 20

  /// The beginning of an anomaly.
  package struct Beginning: Sendable {
    /// The caller finds the series by this index.
    package var index: Int
    package var isOfCustomer: Bool
    package var anomaly: UsageAnomaly

    package init(index: Int, isOfCustomer: Bool, anomaly: UsageAnomaly) {
      self.index = index
      self.isOfCustomer = isOfCustomer
      self.anomaly = anomaly
    }
  }

  /// - Parameter beginnings: those of one slot, in a fixed order.
  /// - Returns: those to report, in the given order, each with the number of customers' series that
  ///   begin in its direction.
  package static func told(_ beginnings: [Beginning]) -> [(Beginning, affected: Int)] {
    var told: [(Beginning, affected: Int)] = []
    for direction in UsageAnomaly.Direction.allCases {
      let these = beginnings.filter { $0.anomaly.direction == direction }
      let ofCustomers = these.filter(\.isOfCustomer)
      let largest = ofCustomers.sorted {
        ($1.anomaly.size, $0.index) < ($0.anomaly.size, $1.index)
      }.prefix(customers)
      told += (these.filter { !$0.isOfCustomer } + largest).map { ($0, ofCustomers.count) }
    }
    return told.sorted { $0.0.index < $1.0.index }
  }
}

extension UsageAnomaly {
  /// The calls per minute that are at stake: the most that was expected, or what was seen.
  fileprivate var size: Double { max(observed, expectedHigh) }
}
