import RealModule

/// An anomaly that a `UsageWatch` reports.
package struct UsageAnomaly: Equatable, Sendable {
  package enum Direction: UInt8, Sendable, CaseIterable {
    case high = 1
    case low = 2
    case stopped = 3

    package var name: String {
      switch self {
      case .high: "high"
      case .low: "low"
      case .stopped: "stopped"
      }
    }
  }

  package var direction: Direction
  /// Whether the anomaly ends. Otherwise it begins.
  package var hasEnded: Bool
  /// The minute at which it began, since 1970.
  package var since: Int64
  /// The minute after the row that reported it.
  package var until: Int64
  /// Calls per minute: of the row, and the lowest and highest values that would be no anomaly.
  package var observed: Double
  package var expectedLow: Double
  package var expectedHigh: Double
}

/// Watches the total calls of a meter or of a customer in rows of ten minutes. It finds far too
/// many calls, far too few, or none at all where some are expected. An anomaly is reported when it
/// begins and when it ends. There is never more than one at a time.
///
/// - High and low come from `SeriesDetector`, from the third day on.
/// - Stopped means that there was no call, though chance would explain that only with a probability
///   of e⁻²⁰ by the spread of the series. It is found from the eighth day on, and only if the same
///   hour a week ago had calls.
package struct UsageWatch: Sendable {
  package static let version: UInt8 = 2
  /// The minutes of a row.
  package static let rowMinutes: Int64 = 10

  private static let highAndLowAfter: Int64 = 2 * 1440
  private static let stoppedAfter: Int64 = 7 * 1440
  /// The calls in a row that must be expected, or seen, before anything but silence is reported.
  private static let leastCalls = 50.0
  private static let leastSilentRows = 2
  private static let silenceEvidence = 20.0
  /// A spread is never known better than this share, squared.
  private static let leastDispersion = 0.05
  /// A series that stays silent for this long is considered normal.
  private static let longestSilence: Int64 = 14 * 1440
  private static let backRows: UInt8 = 2

  var series = SeriesDetector()
  var first: Int64 = 0
  var direction: UsageAnomaly.Direction?
  var since: Int64 = 0
  var silence = 0.0
  var silentRows = 0
  var backRows: UInt8 = 0
  /// The hours of the week that last had calls, one bit each.
  var active = InlineArray<3, UInt64>(repeating: 0)

  package init() {}

  package var isOpen: Bool { direction != nil }

  /// The expectation for a row, and how far off it may be.
  package func band(at minute: Int64) -> (expected: Double, spread: Double) {
    let e = series.expectation(at: minute)
    return (e.value, SeriesDetector.deviations * e.spread)
  }

  /// Judges a row by the rows before it, then learns it.
  ///
  /// - Parameters:
  ///   - calls: the calls in the ten minutes. Negative numbers count as 0.
  ///   - minute: the first minute, since 1970. It must be later than that of the row before.
  package mutating func observe(_ calls: Double, at minute: Int64) -> UsageAnomaly? {
    let calls = calls.isFinite ? max(calls, 0) : 0
    if series.rows == 0 { first = minute }
    let e = series.expectation(at: minute)
    if direction == .stopped { return observeStopped(calls, minute, e) }
    let wasActive = isActive(minute)
    note(calls, at: minute)
    if calls > 0 {
      silence = 0
      silentRows = 0
    } else {
      silentRows += 1
      if wasActive { silence += Self.evidence(ofSilence: e) }
      if minute - first >= Self.stoppedAfter, silentRows >= Self.leastSilentRows,
        silence >= Self.silenceEvidence
      {
        if let open = direction {
          // One anomaly at a time: the current one ends with this row, and the next row reports the
          // silence.
          direction = nil
          series.close()
          return anomaly(open, true, calls, minute, e)
        }
        since = minute - Int64(silentRows - 1) * Self.rowMinutes
        direction = .stopped
        backRows = 0
        return anomaly(.stopped, false, calls, minute, e)
      }
    }
    return observeLevel(calls, minute, e)
  }

  private mutating func observeLevel(
    _ calls: Double, _ minute: Int64, _ e: SeriesDetector.Expectation
  ) -> UsageAnomaly? {
    let judgement = series.observe(calls, at: minute)
    if let open = direction {
      guard !judgement.isAnomaly else { return nil }
      direction = nil
      return anomaly(open, true, calls, minute, e)
    }
    guard judgement.isAnomaly, abs(judgement.deviation) >= SeriesDetector.deviations,
      minute - first >= Self.highAndLowAfter,
      max(e.value, calls) >= Self.leastCalls, calls > 0
    else { return nil }
    let found: UsageAnomaly.Direction = calls > e.value ? .high : .low
    direction = found
    since = minute
    return anomaly(found, false, calls, minute, e)
  }

  /// While calls have stopped nothing is learnt, so their return is no anomaly.
  private mutating func observeStopped(
    _ calls: Double, _ minute: Int64, _ e: SeriesDetector.Expectation
  ) -> UsageAnomaly? {
    backRows = calls > 0 ? backRows + 1 : 0
    let staysSilent = minute - since >= Self.longestSilence
    guard backRows >= Self.backRows || staysSilent else { return nil }
    let ended = anomaly(.stopped, true, calls, minute, e)
    if staysSilent {
      self = UsageWatch()
    } else {
      direction = nil
      silence = 0
      silentRows = 0
      series.close()
    }
    return ended
  }

  private func anomaly(
    _ direction: UsageAnomaly.Direction, _ hasEnded: Bool, _ calls: Double, _ minute: Int64,
    _ e: SeriesDetector.Expectation
  ) -> UsageAnomaly {
    let a = Double(Self.rowMinutes)
    let band = SeriesDetector.deviations * e.spread
    return UsageAnomaly(
      direction: direction, hasEnded: hasEnded, since: since, until: minute + Self.rowMinutes,
      observed: calls / a, expectedLow: max(e.value - band, 0) / a,
      expectedHigh: max(e.value + band, 0) / a)
  }

  /// −ln of the probability of no call, for a negative binomial with the mean and the spread of the
  /// series.
  private static func evidence(ofSilence e: SeriesDetector.Expectation) -> Double {
    let mean = e.value
    guard mean > 0 else { return 0 }
    let dispersion = max((e.spread * e.spread - mean) / (mean * mean), leastDispersion)
    return Double.log(onePlus: dispersion * mean) / dispersion
  }

  // MARK: Hours with calls

  private static func hour(_ minute: Int64) -> Int {
    Int((((minute % 10_080) + 10_080) % 10_080) / 60)
  }

  private func isActive(_ minute: Int64) -> Bool {
    let hour = Self.hour(minute)
    return active[hour / 64] >> UInt64(hour % 64) & 1 == 1
  }

  /// The first call of an hour sets a bit, and an hour without calls clears it.
  private mutating func note(_ calls: Double, at minute: Int64) {
    let hour = Self.hour(minute)
    let bit: UInt64 = 1 << UInt64(hour % 64)
    if calls > 0 {
      active[hour / 64] |= bit
    } else if minute % 60 + Self.rowMinutes >= 60, silentRows >= 5 {
      active[hour / 64] &= ~bit
    }
  }
}
