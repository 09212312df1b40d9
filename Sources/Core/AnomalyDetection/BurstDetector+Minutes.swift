/// Handles minutes that fill up while events arrive. Two are open, because events of several
/// producers arrive slightly out of order. The minute before them is learnt when a new one opens.
extension BurstDetector {
  /// A detector for a license first seen in that minute.
  init(firstMinute: Int32) {
    self.init()
    closed = firstMinute - 2
  }

  /// Adds calls of one minute.
  ///
  /// - Parameters:
  ///   - open: the newest minute.
  ///   - previous: calls of the minute before it.
  /// - Returns: the burst that these calls make clear, if any.
  mutating func add(
    _ calls: Int64, at minute: Int32, _ open: inout OpenMinute, _ previous: inout Int64
  ) -> Burst? {
    if minute > open.minute {
      advance(to: minute, &open, &previous)
      open.calls = Self.sum(0, calls)
    } else if minute == open.minute {
      open.calls = Self.sum(open.calls, calls)
    } else if minute == open.minute - 1 {
      previous = Self.sum(previous, calls)
      open.alarm = alarm(at: open.minute, previous: Float(previous))
      let alone = alarm(at: minute, previous: nil)
      if Float(previous) >= alone { return tell(minute, Float(previous), nil, &open) }
    } else {
      baseline.learnLate(Float(calls), at: minute, closed: closed)
      return nil
    }
    guard Float(open.calls) >= open.alarm else { return nil }
    return tell(open.minute, Float(open.calls), Float(previous), &open)
  }

  /// Adds to a sum, up to `OpenMinute.mostCalls`. Negative calls count as 0.
  @inline(__always)
  static func sum(_ a: Int64, _ b: Int64) -> Int64 {
    let (sum, overflows) = a.addingReportingOverflow(max(b, 0))
    return overflows ? OpenMinute.mostCalls : min(sum, OpenMinute.mostCalls)
  }

  private mutating func tell(
    _ minute: Int32, _ calls: Float, _ previous: Float?, _ open: inout OpenMinute
  ) -> Burst {
    let (evidence, age) = evidence(at: minute, calls: calls, previous: previous)
    start(at: minute - Int32(age))
    open.alarm = .infinity
    return Burst(
      startMinute: minute - Int32(age), minute: minute, ratePerMinute: Double(calls),
      expectedPerMinute: Double(baseline.expectation(at: minute).upper),
      score: max(Self.score(evidence), Self.threshold), windowSeconds: (Int32(age) + 1) * 60)
  }

  private mutating func advance(
    to minute: Int32, _ open: inout OpenMinute, _ previous: inout Int64
  ) {
    close(Float(previous), at: open.minute - 1)
    if minute == open.minute + 1 {
      previous = open.calls
    } else {
      close(Float(open.calls), at: open.minute)
      previous = 0
      if minute > open.minute + 2 { closeSilence(open.minute + 1, minute - 2) }
    }
    open.minute = minute
    open.alarm = alarm(at: minute, previous: Float(previous))
  }

  /// Learns minutes without calls, in steps of hours, for fourteen days at most.
  private mutating func closeSilence(_ first: Int32, _ last: Int32) {
    var minute = max(first, last - Self.longestGap + 1)
    while minute <= last, isBurst {
      close(0, at: minute)
      minute += 1
    }
    while minute <= last {
      let end = min(last, minute - Int32(WeekClock.minuteOfWeek(minute) % 60) + 59)
      close(silentMinutes: end - minute + 1, from: minute)
      minute = end + 1
    }
  }
}
