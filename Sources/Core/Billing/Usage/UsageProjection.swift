import Foundation

/// An estimate of what a license will have used at the end of its period. It must never be
/// invoiced.
///
/// Each remaining day is expected to be like the same weekday in the weeks before. A week counts
/// half as much as the week two weeks after it. A weekday that was never seen is expected to be
/// like the mean of all days. Nine of ten periods fall into the range if days keep differing as
/// they did. A license that is less than a day old is expected to go on as it began, within a
/// factor of two.
package struct UsageProjection: Sendable, Equatable {
  package let quantity: Int64
  package let low: Int64
  package let high: Int64

  /// How many days before today are considered.
  package static let daysBack: Int64 = 56

  /// Five percent of the normal distribution lie beyond this value.
  private static let ninetyFive = 1.645

  /// - Parameters:
  ///   - days: the usage of each day (since 1970). A day without usage may be absent.
  ///   - firstDay: the first day with usage, or the first day that is considered.
  ///   - now: the time in seconds since 1970.
  ///   - periodEnd: the day after the period's last day, since 1970.
  ///   - used: the usage in the period so far, with the adjustments that count towards limits. It
  ///     is negative if they take back more than was used. The estimate is never negative.
  package init(
    days: [Int64: Int64], firstDay: Int64, now: Int64, periodEnd: Int64, used: Int64
  ) {
    let today = floorDivide(now, 86_400)
    let elapsed = Double(now - today * 86_400) / 86_400
    let left = max(0, periodEnd - today - 1)
    guard today < periodEnd else {
      (quantity, low, high) = (max(0, used), max(0, used), max(0, used))
      return
    }
    let shape = WeeklyShape(days: days, from: max(firstDay, today - Self.daysBack), to: today)
    var (expected, variance) = (0.0, 0.0)
    if let shape {
      // This is the rest of today, and then the remaining days.
      let first = shape.expectation(of: today)
      expected += first.mean * (1 - elapsed)
      variance += first.variance * (1 - elapsed)
      for day in 0..<min(left, 366) {
        let one = shape.expectation(of: today + 1 + day)
        expected += one.mean
        variance += one.variance
      }
    } else {
      let begun = Double(today - firstDay) + max(elapsed, 1.0 / 24)
      // An adjustment is not part of the pace.
      let counted = days.reduce(0.0) { $1.key < firstDay ? $0 : $0 + Double($1.value) }
      expected = counted / max(begun, 1.0 / 24) * (Double(left) + 1 - elapsed)
      variance = (expected / 2 / Self.ninetyFive) * (expected / 2 / Self.ninetyFive)
    }
    let spread = Self.ninetyFive * variance.squareRoot()
    func total(_ more: Double) -> Int64 {
      let sum = Double(used) + max(0, more).rounded()
      return sum < 9.0e18 ? max(0, used, Int64(sum)) : .max
    }
    quantity = total(expected)
    low = total(expected - spread)
    high = total(shape == nil ? expected * 2 : expected + spread)
  }
}

/// The mean and the variance of each weekday. Recent weeks count more.
private struct WeeklyShape {
  private struct Sum {
    var count = 0
    var weight = 0.0
    var values = 0.0
    var squares = 0.0

    mutating func add(_ value: Double, _ weight: Double) {
      count += 1
      self.weight += weight
      values += weight * value
      squares += weight * value * value
    }

    var mean: Double { values / weight }
    var variance: Double { max(0, squares / weight - mean * mean) }
  }

  private var weekdays = Array(repeating: Sum(), count: 7)
  private var all = Sum()

  /// Returns nil if there is no whole day.
  init?(days: [Int64: Int64], from: Int64, to: Int64) {
    guard from < to else { return nil }
    for day in from..<to {
      let weight = pow(0.5, Double(to - day) / 14)
      let value = Double(days[day] ?? 0)
      weekdays[Self.weekday(day)].add(value, weight)
      all.add(value, weight)
    }
  }

  private static func weekday(_ day: Int64) -> Int { Int(((day % 7) + 7) % 7) }

  func expectation(of day: Int64) -> (mean: Double, variance: Double) {
    let own = weekdays[Self.weekday(day)]
    guard own.weight > 0 else { return (all.mean, all.variance) }
    // Two weeks say little about how much a weekday varies, so all days together are used.
    return (own.mean, own.count < 3 ? all.variance : own.variance)
  }
}
