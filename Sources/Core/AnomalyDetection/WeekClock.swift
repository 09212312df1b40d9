/// Arithmetic on minutes since 1970, UTC.
enum WeekClock {
  static func minuteOfWeek(_ minute: Int32) -> Int { modulo(minute, 10_080) }
  static func minuteOfDay(_ minute: Int32) -> Int { modulo(minute, 1440) }
  static func day(_ minute: Int32) -> Int { Int((minute - Int32(minuteOfDay(minute))) / 1440) }

  /// Times beyond the years ±2,000 are cut to those, so that sums and differences of minutes cannot
  /// overflow.
  static func bounded(_ minute: Int32) -> Int32 { min(max(minute, -farthest), farthest) }

  static let farthest: Int32 = 1 << 30

  private static func modulo(_ minute: Int32, _ length: Int) -> Int {
    let rest = Int(minute) % length
    return rest < 0 ? rest + length : rest
  }
}
