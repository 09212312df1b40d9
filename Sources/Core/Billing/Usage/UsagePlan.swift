import Metering

/// The rows from which a range with its windows is summed up. They are whole UTC days if no bound
/// lies within the day, hours of the days that a bound cuts, and minutes of the hours that a bound
/// cuts.
///
/// Every second of the range lies in exactly one run, and no run reaches over a bound within a
/// unit. So the sum of the windows is the sum of their rows, even when clocks change.
package struct UsagePlan: Sendable, Equatable {
  /// Days since 1970, half-open.
  package private(set) var days: [Range<Int64>] = []
  /// Seconds since 1970, half-open, on hours.
  package private(set) var hours: [Range<Int64>] = []
  /// Seconds since 1970, half-open, on minutes.
  package private(set) var minutes: [Range<Int64>] = []

  /// How long minutes are kept, in seconds.
  package static let minutesKept: Int64 = SchemaContract.minuteDays * 86_400
  /// How long hours are kept, in seconds.
  package static let hoursKept: Int64 = SchemaContract.hourDays * 86_400

  /// A bound that the stored rows cannot answer.
  package struct Refusal: Error, Sendable, Equatable {
    /// The bound, in seconds since 1970.
    package let bound: Int64
    /// The nearest instants before and after it that could be bounds.
    package let before: Int64
    package let after: Int64
  }

  /// - Parameters:
  ///   - bounds: at least two bounds in seconds, ascending.
  ///   - now: the time in seconds since 1970.
  package init(bounds: [Int64], now: Int64) throws(Refusal) {
    guard let from = bounds.first, let to = bounds.last, from < to else { return }
    for bound in bounds { try Self.check(bound, from, now) }
    let cutDays = Self.cut(bounds, 86_400)
    var next = from
    for day in cutDays {
      let start = max(day * 86_400, from)
      let end = min((day + 1) * 86_400, to)
      if next < start { days.append(next / 86_400..<start / 86_400) }
      addHours(start, end, bounds)
      next = end
    }
    if next < to { days.append(floorDivide(next, 86_400)..<floorDivide(to, 86_400)) }
    days = days.filter { !$0.isEmpty }
  }

  private mutating func addHours(_ start: Int64, _ end: Int64, _ bounds: [Int64]) {
    let low = bounds.partitioningIndex { $0 >= start }
    let high = bounds.partitioningIndex { $0 > end }
    var next = start
    for hour in Self.cut(bounds[low..<high], 3_600) {
      let first = max(hour * 3_600, start)
      let last = min((hour + 1) * 3_600, end)
      Self.append(next..<max(first, next), to: &hours)
      if first < last { Self.append(first..<last, to: &minutes) }
      next = max(last, next)
    }
    if next < end { Self.append(next..<end, to: &hours) }
  }

  /// The units with a bound within them, ascending and without repetitions.
  private static func cut(_ bounds: some Sequence<Int64>, _ unit: Int64) -> [Int64] {
    var found: [Int64] = []
    for bound in bounds where bound % unit != 0 {
      let index = floorDivide(bound, unit)
      if found.last != index { found.append(index) }
    }
    return found
  }

  private static func append(_ run: Range<Int64>, to runs: inout [Range<Int64>]) {
    guard !run.isEmpty else { return }
    if let last = runs.last, last.upperBound == run.lowerBound {
      runs[runs.count - 1] = last.lowerBound..<run.upperBound
    } else {
      runs.append(run)
    }
  }

  private static func check(_ bound: Int64, _ from: Int64, _ now: Int64) throws(Refusal) {
    if bound % 86_400 == 0 { return }
    func refuse(_ unit: Int64) -> Refusal {
      let before = floorDivide(bound, unit) * unit
      return Refusal(bound: bound, before: before, after: before + unit)
    }
    // Only the part of the unit within the range is read, from its beginning on.
    let day = max(floorDivide(bound, 86_400) * 86_400, from)
    if bound % 3_600 == 0 {
      if day < now - hoursKept { throw refuse(86_400) }
      return
    }
    let hour = max(floorDivide(bound, 3_600) * 3_600, from)
    if bound % 60 != 0 || hour < now - minutesKept {
      throw refuse(
        bound % 60 != 0 && hour >= now - minutesKept ? 60 : day < now - hoursKept ? 86_400 : 3_600)
    }
  }
}

extension RandomAccessCollection {
  /// The first index from which on the condition is true, found by bisection.
  fileprivate func partitioningIndex(_ holds: (Element) -> Bool) -> Index {
    var low = startIndex
    var count = self.count
    while count > 0 {
      let half = count / 2
      let middle = index(low, offsetBy: half)
      if holds(self[middle]) {
        count = half
      } else {
        low = index(after: middle)
        count -= half + 1
      }
    }
    return low
  }
}
