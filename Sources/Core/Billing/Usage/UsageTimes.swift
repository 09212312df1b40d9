/// The instants of a question about usage, which are its range and the bounds of its windows.
package struct UsageTimes: Sendable, Equatable {
  package let from: Int64
  package let to: Int64
  package let window: UsageWindow
  package let zone: UsageZone
  /// The bounds of the windows, including both ends of the range.
  package let bounds: [Int64]
  package let plan: UsagePlan

  /// Why a range cannot be answered, and which ranges can be.
  package struct Refusal: Error, Sendable, Equatable {
    /// The nearest instants that work if `from` or `to` is wrong, in seconds since 1970.
    package var nearestFrom: [Int64] = []
    package var nearestTo: [Int64] = []
    /// The bound that cannot be answered.
    package var bound: Int64
    /// The finest window that works for the range, or for the nearest range that works.
    package var finest: UsageWindow?

    package init(
      nearestFrom: [Int64] = [], nearestTo: [Int64] = [], bound: Int64, finest: UsageWindow? = nil
    ) {
      self.nearestFrom = nearestFrom
      self.nearestTo = nearestTo
      self.bound = bound
      self.finest = finest
    }
  }

  package enum Failure: Error, Sendable, Equatable {
    case notAnswerable(Refusal)
    case tooManyWindows(finest: UsageWindow?)
    /// The range before this one would begin before the year 1.
    case noPrevious
  }

  /// The first second of the year 1, in seconds since 1970.
  private static let earliest: Int64 = -62_135_596_800

  /// - Parameters:
  ///   - from, to: seconds since 1970, `from < to`.
  ///   - now: seconds since 1970.
  package init(
    from: Int64, to: Int64, window: UsageWindow, zone: UsageZone, now: Int64
  ) throws(Failure) {
    self.from = from
    self.to = to
    self.window = window
    self.zone = zone
    guard let bounds = window.bounds(from: from, to: to, zone: zone) else {
      throw .tooManyWindows(finest: Self.finest(from, to, zone, now))
    }
    self.bounds = bounds
    do {
      plan = try UsagePlan(bounds: bounds, now: now)
    } catch {
      throw .notAnswerable(Self.refusal(error, from, to, zone, now))
    }
  }

  private static func refusal(
    _ error: UsagePlan.Refusal, _ from: Int64, _ to: Int64, _ zone: UsageZone, _ now: Int64
  ) -> Refusal {
    var refusal = Refusal(bound: error.bound)
    var (low, high) = (from, to)
    if let edge = Self.refusal(ofEdge: from, before: to, now) {
      refusal.nearestFrom = [edge.before, edge.after]
      low = edge.before
    }
    if let edge = Self.refusal(ofEdge: to, before: to + 1, now) {
      refusal.nearestTo = [edge.before, edge.after]
      high = edge.after
    }
    refusal.finest = finest(low, high, zone, now)
    return refusal
  }

  private static func refusal(
    ofEdge edge: Int64, before end: Int64, _ now: Int64
  ) -> UsagePlan.Refusal? {
    do {
      // A range from midnight UTC to the edge is cut only at the edge.
      let start = floorDivide(edge, 86_400) * 86_400
      if start == edge { return nil }
      _ = try UsagePlan(
        bounds: end > edge + 1 ? [edge, start + 86_400] : [start, edge], now: now)
      return nil
    } catch {
      return error
    }
  }

  private static func finest(
    _ from: Int64, _ to: Int64, _ zone: UsageZone, _ now: Int64
  ) -> UsageWindow? {
    [UsageWindow.minute, .hour, .day, .month, .total].first { window in
      guard let bounds = window.bounds(from: from, to: to, zone: zone) else { return false }
      // Nil means that it is refused.
      return (try? UsagePlan(bounds: bounds, now: now)) != nil
    }
  }

  /// The same windows one range earlier. They move by whole months if the range begins and ends on
  /// the same day of a month, as calendar months and most billing periods do, by whole days if it
  /// is whole days, and by the range's length otherwise.
  ///
  /// If the earlier range is shorter, the windows that it does not have are empty, with two equal
  /// bounds.
  ///
  /// - Throws: `noPrevious` or `notAnswerable`.
  package func previous(now: Int64) throws(Failure) -> (bounds: [Int64], plan: UsagePlan) {
    let shift = shift
    let earlier = bounds.map { shift($0) }
    if let first = earlier.first, first < Self.earliest { throw .noPrevious }
    // The windows must neither overlap nor reach into the range itself.
    var bounds: [Int64] = []
    for bound in earlier { bounds.append(min(max(bound, bounds.last ?? bound), from)) }
    if let last = bounds.indices.last, isWholeMonths { bounds[last] = from }
    do {
      return (bounds, try UsagePlan(bounds: Self.distinct(bounds), now: now))
    } catch {
      throw .notAnswerable(
        Self.refusal(error, bounds.first ?? from, bounds.last ?? to, zone, now))
    }
  }

  private static func distinct(_ bounds: [Int64]) -> [Int64] {
    var result: [Int64] = []
    for bound in bounds where result.last != bound { result.append(bound) }
    return result
  }

  /// Whether the range begins and ends at midnight of the same day of a month. The day is at most
  /// the 28th, which every month has.
  private var isWholeMonths: Bool {
    let (first, last) = (zone.day(at: from), zone.day(at: to))
    let day = first - CivilMonth(ofDay: first).firstDay
    return day < 28 && day == last - CivilMonth(ofDay: last).firstDay
      && zone.start(ofDay: first) == from && zone.start(ofDay: last) == to
  }

  private var shift: (Int64) -> Int64 {
    let zone = zone
    let (firstDay, lastDay) = (zone.day(at: from), zone.day(at: to))
    if isWholeMonths {
      let months = zone.month(at: to).index - zone.month(at: from).index
      return { instant in
        let month = zone.month(at: instant)
        let day = zone.day(at: instant)
        let earlier = CivilMonth(index: month.index - months)
        let target = min(earlier.firstDay + day - month.firstDay, earlier.next.firstDay)
        let inDay = instant - zone.start(ofDay: day)
        return min(zone.start(ofDay: target) + inDay, zone.start(of: earlier.next))
      }
    }
    if zone.start(ofDay: firstDay) == from, zone.start(ofDay: lastDay) == to {
      let days = lastDay - firstDay
      return { instant in
        let day = zone.day(at: instant)
        return min(
          zone.start(ofDay: day - days) + instant - zone.start(ofDay: day),
          zone.start(ofDay: day - days + 1))
      }
    }
    let length = to - from
    return { $0 - length }
  }
}
