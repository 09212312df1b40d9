/// The length of the windows that usage is summed up by.
package enum UsageWindow: String, Sendable, CaseIterable {
  case minute
  case hour
  case day
  case month
  /// The billing period of each license.
  case period
  case total

  /// The largest number of windows of a range.
  package static let mostWindows = 12_000

  /// The bounds of the windows of `[from, to)`, including both ends. The windows at the edges are
  /// cut there. Minutes and hours are those of UTC. Days and months begin at midnight of the zone.
  /// Nil if there are more than `mostWindows`.
  ///
  /// Each license's own dates cut `period`, so it has only the bounds of the range.
  package func bounds(from: Int64, to: Int64, zone: UsageZone) -> [Int64]? {
    switch self {
    case .total, .period: return [from, to]
    case .minute: return Self.fixed(60, from, to)
    case .hour: return Self.fixed(3_600, from, to)
    case .day:
      guard (to - from) / 86_400 < Self.mostWindows else { return nil }
      if zone.isUTC { return Self.fixed(86_400, from, to) }
      let first = zone.day(at: from) + 1
      return Self.between(from, to, first) { zone.start(ofDay: $0) }
    case .month:
      guard (to - from) / (28 * 86_400) < Self.mostWindows else { return nil }
      let first = zone.month(at: from).index + 1
      return Self.between(from, to, first) { zone.start(of: CivilMonth(index: $0)) }
    }
  }

  private static func fixed(_ length: Int64, _ from: Int64, _ to: Int64) -> [Int64]? {
    guard (to - from) / length < mostWindows else { return nil }
    return between(from, to, floorDivide(from, length) + 1) { $0 * length }
  }

  private static func between(
    _ from: Int64, _ to: Int64, _ first: Int64, _ start: (Int64) -> Int64
  ) -> [Int64] {
    var bounds = [from]
    var index = first
    while true {
      let next = start(index)
      index += 1
      if next >= to { break }
      // A day that the zone skipped begins where the next day does.
      if next > bounds[bounds.count - 1] { bounds.append(next) }
    }
    bounds.append(to)
    return bounds
  }
}

/// A named range.
package enum NamedRange: String, Sendable, CaseIterable {
  case currentPeriod = "current_period"
  case lastPeriod = "last_period"
  case last24h = "last_24h"
  case last7d = "last_7d"
  case last30d = "last_30d"
  case thisMonth = "this_month"
  case lastMonth = "last_month"

  /// The range in seconds since 1970. Nil for periods, which differ from license to license.
  ///
  /// `last_…` ends with the running hour, so that it includes what has just happened. For usage
  /// that is kept only by day (`byDay`), it ends with the running day. Months are whole months of
  /// the zone.
  package func range(now: Int64, zone: UsageZone, byDay: Bool) -> (from: Int64, to: Int64)? {
    func last(_ days: Int64) -> (from: Int64, to: Int64) {
      let unit: Int64 = byDay ? 86_400 : 3_600
      let end = (floorDivide(now, unit) + 1) * unit
      return (end - days * 86_400, end)
    }
    let month = zone.month(at: now)
    switch self {
    case .currentPeriod, .lastPeriod: return nil
    case .last24h: return last(1)
    case .last7d: return last(7)
    case .last30d: return last(30)
    case .thisMonth: return (zone.start(of: month), zone.start(of: month.next))
    case .lastMonth:
      return (zone.start(of: CivilMonth(index: month.index - 1)), zone.start(of: month))
    }
  }
}
