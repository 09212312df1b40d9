import RealModule

/// Up to three times of day at which a license was seen to call much more than usual, such as a
/// nightly job.
///
/// A peak that occurred on two days is expected for the next eight days. A job that runs daily or
/// weekly is therefore not a burst.
struct DailyPeaks: BitwiseCopyable, Sendable {
  /// From the highest bit: log2(factor) in eighths (7), days seen (3), day last seen modulo 32 (5),
  /// length in minutes (6), minute of the day (11). 0 is an empty slot.
  private var slots = InlineArray<3, UInt32>(repeating: 0)

  private static let margin = 2
  private static let longest = 32
  private static let confirmed = 2
  private static let rememberedDays = 8

  private struct Peak {
    var start: Int
    var length: Int
    var day: Int
    var days: Int
    var factorCode: Int

    init(_ bits: UInt32) {
      start = Int(bits & 2047)
      length = Int(bits >> 11 & 63)
      day = Int(bits >> 17 & 31)
      days = Int(bits >> 22 & 7)
      factorCode = Int(bits >> 25)
    }

    init(start: Int, day: Int, factorCode: Int) {
      self.start = start
      length = 1
      self.day = day
      days = 1
      self.factorCode = factorCode
    }

    var bits: UInt32 {
      UInt32(start) | UInt32(length) << 11 | UInt32(day) << 17 | UInt32(days) << 22
        | UInt32(factorCode) << 25
    }

    /// How far into the peak a minute of the day is; nil outside of its margins.
    func offset(of minute: Int) -> Int? {
      let offset = (minute - start + 1440 + margin) % 1440 - margin
      return offset < length + margin ? offset : nil
    }
  }

  /// The factor by which calls may exceed the usual in that minute; 1 without a known peak.
  func factor(at minute: Int32) -> Float {
    if slots[0] == 0 && slots[1] == 0 && slots[2] == 0 { return 1 }
    var most = 0
    for index in 0..<3 where slots[index] != 0 {
      let peak = Peak(slots[index])
      let age = (WeekClock.day(minute) - peak.day) & 31
      guard peak.days >= Self.confirmed, age <= Self.rememberedDays,
        peak.offset(of: WeekClock.minuteOfDay(minute)) != nil
      else { continue }
      most = max(most, peak.factorCode)
    }
    return most == 0 ? 1 : Float.exp2(Float(most) / 8)
  }

  /// Remembers a minute with `ratio` times the usual calls.
  mutating func learn(_ minute: Int32, _ ratio: Float) {
    let code = Int(min(max(8 * Float.log2(ratio), 1), 127).rounded(.up))
    let day = WeekClock.day(minute) & 31
    let inDay = WeekClock.minuteOfDay(minute)
    var weakest = 0
    var weakestWorth = Int.max
    for index in 0..<3 {
      var peak = Peak(slots[index])
      let age = (day - peak.day) & 31
      if slots[index] != 0, age <= Self.rememberedDays, let offset = peak.offset(of: inDay) {
        if age != 0 { peak.days = min(peak.days + 1, 7) }
        peak.day = day
        peak.factorCode = max(peak.factorCode - (age != 0 ? 1 : 0), code)
        peak.length = min(max(peak.length, offset + 1), Self.longest)
        slots[index] = peak.bits
        return
      }
      let worth = slots[index] == 0 || age > Self.rememberedDays ? 0 : peak.days * 8 - age
      if worth < weakestWorth {
        weakestWorth = worth
        weakest = index
      }
    }
    slots[weakest] = Peak(start: inDay, day: day, factorCode: code).bits
  }
}
