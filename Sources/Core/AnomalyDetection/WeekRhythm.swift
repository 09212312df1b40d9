import RealModule

/// By how much values are above their level in each hour of the week. Each hour has its own mean.
/// Before the hour was seen, the mean of the same hour on other days stands for it. Between the
/// middles of two hours the value is interpolated linearly.
struct WeekRhythm: Sendable {
  /// NaN if it was not seen.
  var days = InlineArray<24, Float>(repeating: .nan)
  var weeks = InlineArray<168, Float>(repeating: .nan)

  /// The share of the past that a new hour replaces.
  private static let dayRate = 0.2
  private static let weekRate = 0.5

  /// - Parameter step: the minutes that a row stands for.
  /// - Returns: nil if that hour was not seen on any day.
  func value(at minute: Int64, step: Double) -> Double? {
    let (hour, part) = Self.place(minute, step)
    guard let here = value(ofHour: hour) else { return nil }
    let other = value(ofHour: part < 0.5 ? (hour + 167) % 168 : (hour + 1) % 168) ?? here
    let share = abs(part - 0.5)
    return here * (1 - share) + other * share
  }

  mutating func learn(_ above: Double, at minute: Int64, step: Double, most: Double) {
    let hour = Self.place(minute, step).hour
    let share = step / 60
    let day = Double(days[hour % 24])
    let week = Double(weeks[hour])
    if day.isNaN {
      days[hour % 24] = Float(above)
    } else {
      days[hour % 24] += Float(Self.dayRate * share * min(max(above - day, -most), most))
    }
    guard !week.isNaN else {
      weeks[hour] = Float(above)
      return
    }
    weeks[hour] += Float(Self.weekRate * share * min(max(above - week, -most), most))
  }

  private func value(ofHour hour: Int) -> Double? {
    let own = weeks[hour].isNaN ? days[hour % 24] : weeks[hour]
    return own.isNaN ? nil : Double(own)
  }

  /// The hour of the week that contains the middle of a row, and the position in that hour.
  private static func place(_ minute: Int64, _ step: Double) -> (hour: Int, part: Double) {
    let inWeek = ((minute % 10_080) + 10_080) % 10_080
    let part = min((Double(inWeek % 60) + step / 2) / 60, 1)
    return (Int(inWeek / 60), part)
  }
}
