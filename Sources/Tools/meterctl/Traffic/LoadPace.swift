/// The number of events that are due by now at a given rate. After a stall of more than a second,
/// the missed events are not made up for.
struct LoadPace {
  let rate: Double
  var now: UInt64
  private var origin: UInt64
  private var base: Int64 = 0

  init(rate: Double, begin: UInt64) {
    self.rate = rate
    now = begin
    origin = begin
  }

  mutating func due(_ done: Int64) -> Int64 {
    guard rate > 0 else { return .max }
    let due = base + Int64(Double(now - origin) / 1e9 * rate) - done
    if Double(due) > rate + 1_000 {
      origin = now
      base = done
      return 0
    }
    return max(0, due)
  }

  /// The time until the next event is due. It is at least 1 ms, so that a turn of the loop is worth
  /// it, and at most 100.
  func waitMilliseconds(_ done: Int64) -> Int32 {
    let at = Double(done + 1 - base) / rate
    let left = at - Double(now - origin) / 1e9
    return Int32(min(100, max(1, (left * 1_000).rounded(.up))))
  }
}
