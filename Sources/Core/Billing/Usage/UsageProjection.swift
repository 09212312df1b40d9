import Foundation

/// What a license may have used at the end of its period: an estimate, and never a number to invoice.
///
/// Each day that is left is expected to be as the same weekday was in the weeks before; a week counts
/// half as much as the one two weeks later. Weekdays that were never seen are as the mean of all days.
/// The range is what nine of ten periods fall into where days differ as they did. A license of less
/// than a day is expected to go on as it began, within a factor of two.
package struct UsageProjection: Sendable, Equatable {
  package let quantity: Int64
  package let low: Int64
  package let high: Int64

  /// Days before today that are looked at.
  package static let daysBack: Int64 = 56

  /// Five percent of the normal distribution lie beyond it.
  private static let ninetyFive = 1.645

  /// - Parameters:
  ///   - days: what was used on each day (since 1970); a day that is absent had none.
  ///   - firstDay: the first day with usage ever, or the first that is looked at.
  ///   - now: seconds since 1970.
  ///   - periodEnd: the day behind the period's last, since 1970.
  ///   - used: in the period so far.
  package init(
    days: [Int64: Int64], firstDay: Int64, now: Int64, periodEnd: Int64, used: Int64
  ) {
    let today = floorDivide(now, 86_400)
    let elapsed = Double(now - today * 86_400) / 86_400
    let left = max(0, periodEnd - today - 1)
    guard today < periodEnd else {
      (quantity, low, high) = (used, used, used)
      return
    }
    let shape = WeeklyShape(days: days, from: max(firstDay, today - Self.daysBack), to: today)
    var (expected, variance) = (0.0, 0.0)
    if let shape {
      // The rest of today, and then the days that are left.
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
      expected = Double(used) / max(begun, 1.0 / 24) * (Double(left) + 1 - elapsed)
      variance = (expected / 2 / Self.ninetyFive) * (expected / 2 / Self.ninetyFive)
    }
    let spread = Self.ninetyFive * variance.squareRoot()
    func total(_ more: Double) -> Int64 {
      let sum = Double(used) + max(0, more).rounded()
      return sum < 9.0e18 ? max(used, Int64(sum)) : .max
    }
    quantity = total(expected)
    low = total(expected - spread)
    high = total(shape == nil ? expected * 2 : expected + spread)
  }
}

/// The mean and the variance of each weekday, recent weeks counting more.
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

  /// Nil without a whole day.
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
    // Two weeks tell little of how much a weekday varies; all days together do.
    return (own.mean, own.count < 3 ? all.variance : own.variance)
  }
}
