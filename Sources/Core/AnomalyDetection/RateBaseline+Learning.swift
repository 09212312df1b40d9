import RealModule

extension RateBaseline {
  /// Learns the calls of a minute, or of a row that stands for `step` minutes.
  ///
  /// - Parameters:
  ///   - previous: the minute that was learnt before.
  ///   - e: the expectation for this minute.
  ///   - burstMinutes: how long the current burst has lasted, or -1. In a burst, calls above twice
  ///     the usual are not learnt, so that a new level is learnt in a day or two. The spread is not
  ///     learnt at all.
  ///   - isPeak: whether the minute may belong to a job.
  ///   - isDoubtful: whether it may be the beginning of a burst.
  mutating func learn(
    _ calls: Float, at minute: Int32, after previous: Int32, step: Float, _ e: Expectation,
    burstMinutes: Int32, isPeak: Bool, isDoubtful: Bool
  ) {
    if minute / 60 != previous / 60 { finishHour(previous) }
    let isBurst = burstMinutes >= 0
    let clipped = min(calls, isBurst ? 2 * e.usual : highest(e))
    hourCalls += clipped * step
    hourWeight += Self.minuteFactor(minuteCode(WeekClock.minuteOfWeek(minute) % 60)) * step
    // A job looks like a burst the first time. So that it does not later, the beginning of a burst
    // is learnt as something that may come again.
    if minutesSeen > 0, burstMinutes < 8 {
      learnMinute(calls, minute, e, isPeak)
      if isPeak { peaks.learn(minute, calls / e.usual) }
    }
    learnRecent(calls, step, e)
    // In a burst everything is followed, so that a level that stays becomes the usual within hours.
    let followed = isBurst ? min(calls, Self.mostCalls) : min(calls, 1.2 * e.upper + 3)
    laggedCalls.add(followed, step: step, seen: minutesSeen)
    laggedUsual.add(e.hourly, step: step, seen: minutesSeen)
    learnLevel(clipped, step, e)
    learnSpread(clipped, step, e, isBurst, isDoubtful)
    minutesSeen = UInt16(min(Float(minutesSeen) + step, 65_535))
  }

  /// More calls in a minute than this teach nothing more.
  private func highest(_ e: Expectation) -> Float {
    let deviation = (e.upper + e.fastDispersion * e.upper * e.upper).squareRoot()
    return max(4 * e.upper + 10, e.upper + 6 * deviation)
  }

  private mutating func learnRecent(_ calls: Float, _ step: Float, _ e: Expectation) {
    let share = max(1 / (Float(minutesSeen) + 1), min(step / 60, 0.5))
    let known = min(calls, minutesSeen < 30 ? .infinity : 2 * max(e.upper, recent) + 5)
    recent += share * (known - recent)
  }

  private mutating func learnLevel(_ calls: Float, _ step: Float, _ e: Expectation) {
    guard level > 0, e.origin == .thisHourOfWeek else { return }
    let share = min(step / Self.levelMinutes, 0.25)
    let scale = max(e.usual, squaredMean.squareRoot())
    level = min(max(level * (1 + share * (calls - e.usual) / scale), 1e-3), Self.mostCalls)
  }

  private mutating func learnSpread(
    _ calls: Float, _ step: Float, _ e: Expectation, _ isBurst: Bool, _ isDoubtful: Bool
  ) {
    if isBurst {
      residual = 0
      withheld = 0
    }
    // The minutes of jobs are larger and less well known, so their spread differs from the rest.
    if isBurst || e.isJob { return }
    // At first, the last third of the past counts, so that jobs which were not known yet are soon
    // forgotten.
    let share = max(3 / (Float(minutesSeen) + 3), min(step / Self.dispersionMinutes, 0.1))
    // A level that stays higher than usual is not spread. Only what exceeds it counts, in
    // proportion.
    let high = max(e.usual, e.lately)
    let scale = calls > high ? e.usual / high : 1
    let off = calls > high ? (calls - high) * scale : min(calls - e.usual, 0)
    let mean = e.usual * scale
    let square = e.usual * e.usual
    residual = residual * Self.residualDecay + off
    // What may be the beginning of a burst waits until it turns out not to be one.
    withheld += off * off - mean - excessVariance
    if isDoubtful { return }
    excessVariance = max(excessVariance + share * withheld, -e.usual)
    withheld = 0
    let independent = 1 - Self.residualDecay * Self.residualDecay
    // Only values above count, and they count twice, because a level that is still too high after a
    // burst is no spread. A climb teaches as much as a value at the border of the known.
    let slow =
      residual < 0
      ? 0
      : min(2 * residual * residual * independent, 12 * (e.usual + e.slowDispersion * square))
    slowExcessVariance += share * (slow - mean - slowExcessVariance)
    squaredMean += share * (square - squaredMean)
  }

  private mutating func learnMinute(
    _ calls: Float, _ minute: Int32, _ e: Expectation, _ isPeak: Bool
  ) {
    let index = WeekClock.minuteOfWeek(minute) % 60
    let code = minuteCode(index)
    let factor = Self.minuteFactor(code)
    // A job stands out from the minutes around it, not only from what is usual.
    let plain = e.usual / factor
    let around = e.origin == .thisHourOfWeek ? plain + residual / 16 : recent
    let usual = max(plain, around)
    // One burst alone does not make a minute the minute of a job: 1 + 0.15 × 9 rounds to less than
    // `leastJobCode`.
    let ratio = min(calls / max(usual, 1e-3), 10)
    let hours = Float(minutesSeen) / 60
    // A minute that usually has few calls says little. A possible job is learnt fast.
    let share =
      (isPeak ? max(1 / (hours + 2), 0.15) : max(1 / (hours + 4), 1 / 24)) * usual / (usual + 2)
    let known = Float.exp2(Float(code) / 3)
    let target = max(known + share * (ratio - known), 1)
    set(minuteCode: Dither.round(3 * Float.log2(target), minute, 15), index)
  }

  /// Learns the hour that contains `minute`.
  private mutating func finishHour(_ minute: Int32) {
    defer {
      hourCalls = 0
      hourWeight = 0
    }
    guard hourWeight >= 20 else { return }
    let mean = (hourCalls + 0.5) / hourWeight
    let hour = WeekClock.minuteOfWeek(minute) / 60
    if level <= 0 { level = max(mean, 1e-3) }
    let here = code(ofHour: hour)
    // A silent hour that used to be busy shows that the license is not in use. It says nothing
    // about what the license does when it is.
    if hourCalls == 0, here.code >= 0, level * Self.hourFactor(here.code) * hourWeight > 10 {
      return
    }
    var target = mean / level
    if here.origin == .thisHourOfWeek {
      let old = Self.hourFactor(here.code)
      let weeks = Float(minutesSeen) / 10_080
      target = old + (target - old) / min(weeks + 1, 4)
    }
    var position = 16 * Float.log2(target) + 128
    if position > 254 { position -= Float(rebase(Int(position) - 190)) }
    hours[hour] = UInt8(Dither.round(position, minute, 254))
  }

  /// Raises the level by that many sixteenths of an octave, in whole octaves, and lowers the
  /// factors accordingly.
  private mutating func rebase(_ codes: Int) -> Int {
    let octaves = codes / 16
    level *= Float.exp2(Float(octaves))
    for hour in 0..<168 where hours[hour] != Self.unseen {
      hours[hour] = UInt8(max(Int(hours[hour]) - 16 * octaves, 0))
    }
    return 16 * octaves
  }
}

// MARK: Silence

extension RateBaseline {
  /// Learns `count` minutes without calls, all in the hour of `first`.
  mutating func learnSilence(
    _ count: Int32, from first: Int32, after previous: Int32, _ e: Expectation
  ) {
    if first / 60 != previous / 60 { finishHour(previous) }
    let n = Float(count)
    let decay = Float.pow(Self.residualDecay, n)
    residual = residual * decay - e.usual * (1 - decay) * 16
    guard e.usual * n < 10 else { return }
    let seen = Float(minutesSeen)
    recent *= max(1 - max(n / (seen + n), n / 60), 0)
    for _ in 0..<count {
      laggedCalls.add(0, step: 1, seen: minutesSeen)
      laggedUsual.add(e.hourly, step: 1, seen: minutesSeen)
    }
    if level > 0, e.origin == .thisHourOfWeek {
      let scale = max(e.usual, squaredMean.squareRoot())
      level = max(level * Float.exp(-n / Self.levelMinutes * e.usual / scale), 1e-3)
    }
    let share = max(n / (seen + n), min(n / Self.dispersionMinutes, 0.1))
    let square = e.usual * e.usual
    excessVariance += share * (square - e.usual - excessVariance)
    slowExcessVariance += share * (square - e.usual - slowExcessVariance)
    squaredMean += share * (square - squaredMean)
    hourWeight += n
    minutesSeen = UInt16(min(seen + n, 65_535))
    let forgotten = e.usual / (e.usual + 2) / 24
    for minute in first..<first + count { forgetMinute(minute, forgotten) }
  }

  /// Lowers a minute's factor after an hour in which that minute had no calls.
  private mutating func forgetMinute(_ minute: Int32, _ share: Float) {
    let index = WeekClock.minuteOfWeek(minute) % 60
    let code = minuteCode(index)
    guard code > 0 else { return }
    let target = 1 + (Float.exp2(Float(code) / 3) - 1) * (1 - share)
    set(minuteCode: Dither.round(3 * Float.log2(target), minute, 15), index)
  }

  private mutating func set(minuteCode code: Int, _ index: Int) {
    let shift = UInt8((index & 1) * 4)
    minutes[index >> 1] = minutes[index >> 1] & ~(15 << shift) | UInt8(code) << shift
  }

  /// Adds calls that came too late to be judged to the mean of their hour, if that is still being
  /// learnt.
  mutating func learnLate(_ calls: Float, at minute: Int32, closed: Int32) {
    guard minute / 60 == closed / 60, hourWeight > 0 else { return }
    hourCalls = min(hourCalls + calls, Self.mostCalls)
  }
}

// MARK: Checking

extension RateBaseline {
  /// Whether every number is one that learning can produce. Values that are read from outside must
  /// not become NaN or trap later.
  var isValid: Bool {
    let most = Self.mostCalls
    let rates = [level, recent, hourCalls / 10_000, hourWeight / 10_000].allSatisfy {
      $0 >= 0 && $0 <= most
    }
    let spreads = [excessVariance, slowExcessVariance, squaredMean, withheld, residual].allSatisfy {
      abs($0) <= 1e32
    }
    return rates && spreads && squaredMean >= 0 && laggedCalls.isValid && laggedUsual.isValid
  }
}
