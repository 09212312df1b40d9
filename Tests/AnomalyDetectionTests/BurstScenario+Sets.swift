import Foundation

/// The ranges that scenarios are drawn from.
struct BurstScenarioRanges {
  var rate = 1.0...10_000.0
  var dispersion = 0.05...0.5
  var wanderSigma = 0.2...0.3
  var wanderMinutes = 30.0...30.0
  var dailyRatio = 5.0...20.0
  var weekendFactor = 0.1...0.4
  var growthPerDay = 0.03...0.05
  var jobFactor = 8.0...10.0
  var jobMinutes = 1...3
  var loopFactor = 5.0...20.0
  var loopMinutes = 60...360
  var flashFactor = 10.0...10.0
  var flashMinutes = 5...5
  var climbFactor = 3.0...3.0

  static let tuning = BurstScenarioRanges()

  /// Nothing was tuned on these. They are wider where a burst still is one, or a calm series still
  /// is none.
  static let heldOut = BurstScenarioRanges(
    rate: 2...20_000, dispersion: 0.02...0.4, wanderSigma: 0.1...0.28, wanderMinutes: 15...60,
    dailyRatio: 3...25, weekendFactor: 0.05...0.6, growthPerDay: 0.01...0.06, jobFactor: 4...14,
    jobMinutes: 1...4, loopFactor: 5...30, loopMinutes: 45...600, flashFactor: 8...15,
    flashMinutes: 4...8, climbFactor: 3...4)
}

extension BurstScenario {
  /// A Thursday in the middle of 2026 is near enough. The day of the week varies by license.
  private static let epoch = 20_650 * 1440

  /// Makes scenario `index` of a kind, with labelled bursts about every nine days, or with none.
  static func make(
    _ kind: Kind, _ index: Int, seed: UInt64, ranges: BurstScenarioRanges = .tuning, days: Int = 91,
    withBursts: Bool = true
  ) -> BurstScenario {
    let kindIndex = Kind.allCases.firstIndex(of: kind)!
    let own = seed &* 1_000_003 &+ UInt64(kindIndex * 100_000 + index)
    var random = RandomCounts(seed: own)
    var scenario = BurstScenario(
      kind: kind, minutes: days * 1440, origin: epoch + random.int(0...10_079),
      base: random.logUniform(ranges.rate), seed: own ^ 0xABCD)
    scenario.draw(&random, ranges, index)
    if withBursts { scenario.addLabels(&random, ranges) }
    return scenario
  }

  private mutating func draw(
    _ random: inout RandomCounts, _ ranges: BurstScenarioRanges, _ index: Int
  ) {
    let noisy = index % 2 == 1
    func disperse(_ random: inout RandomCounts) -> Double { random.uniform(ranges.dispersion) }
    if noisy, kind != .steady { dispersion = random.logUniform(ranges.dispersion) }
    peakMinute = random.int(600...1020)
    zone = 30 * random.int(-24...24)
    switch kind {
    case .steady: break
    case .overdispersed: dispersion = random.uniform(ranges.dispersion)
    case .wander: wander(&random, ranges)
    case .daily: dailyRatio = random.uniform(ranges.dailyRatio)
    case .weekly: rhythm(&random, ranges)
    case .growth:
      growthPerDay = random.uniform(ranges.growthPerDay)
      growthDays = 60
      base = random.logUniform(1...max(ranges.rate.upperBound / 20, 1))
      if random.int(0...1) == 1 { dailyRatio = random.uniform(ranges.dailyRatio) }
    case .hourlyJob:
      hourlyJob = job(&random, ranges)
      if random.int(0...1) == 1 { dailyRatio = random.uniform(ranges.dailyRatio) }
    case .nightlyJob:
      rhythm(&random, ranges)
      let job = job(&random, ranges)
      let night = (peakMinute - zone + 720 + random.int(-120...120) + 2880) % 1440
      nightlyJob = (night, job.length, job.factor, random.int(0...20))
    case .daylightSaving:
      rhythm(&random, ranges)
      shifts = [(minute: (minutes / 2 / 1440) * 1440 + 120, by: random.int(0...1) * 120 - 60)]
    case .silence:
      if random.int(0...1) == 1 { rhythm(&random, ranges) }
      addSilences(&random)
    case .young:
      minutes = Int(random.logUniform(120...14 * 1440))
      if random.int(0...1) == 1 { rhythm(&random, ranges) }
      if random.int(0...2) == 0 { wander(&random, ranges) }
      if random.int(0...3) == 0 { hourlyJob = job(&random, ranges) }
    case .lumpy:
      lump = random.logUniform(5...100)
      base = lump * random.logUniform(1.0 / 240...2)
      if random.int(0...1) == 1 { rhythm(&random, ranges) }
    case .mixed:
      rhythm(&random, ranges)
      if random.int(0...1) == 1 { wander(&random, ranges) }
      if random.int(0...1) == 1 { hourlyJob = job(&random, ranges) }
      if random.int(0...1) == 1 { shifts = [(minute: 40 * 1440 + 60, by: 60)] }
      if random.int(0...1) == 1 { addSilences(&random) }
    case .uneven: uneven(&random, ranges)
    case .jumping:
      uneven(&random, ranges)
      addJumps(&random)
    case .outages:
      uneven(&random, ranges)
      addDips(&random)
    }
  }

  /// These values were measured on minute series of production services. Neighboring hours differ
  /// by a factor of up to 2, and all hours by up to 6. In addition to the random noise, single
  /// minutes differ by 2 to 6 %, similarly over some minutes.
  private mutating func uneven(_ random: inout RandomCounts, _ ranges: BurstScenarioRanges) {
    var logarithm = 0.0
    let steps = (0..<24).map { _ in random.uniform(-0.6...0.6) }
    let drift = steps.reduce(0, +) / 24
    for step in steps {
      logarithm = min(max(logarithm + step - drift, -0.9), 0.9)
      hourFactors.append(exp(logarithm))
    }
    hourSigma = random.uniform(0.03...0.1)
    dispersion = random.logUniform(0.0005...0.01)
    wanderSigma = random.uniform(0.02...0.08)
    wanderMinutes = random.uniform(ranges.wanderMinutes)
    if random.int(0...1) == 1 { weekendFactor = random.uniform(0.5...0.9) }
    if random.int(0...1) == 1 { batch = (random.int(1...3), random.uniform(1.2...1.6)) }
  }

  /// Adds levels that rise by a factor of up to 1.8, and fall below two thirds, within up to three
  /// hours.
  private mutating func addJumps(_ random: inout RandomCounts) {
    var t = random.int(2 * 1440...6 * 1440)
    var isHigh = false
    while t < minutes {
      let factor = random.uniform(1.3...1.8)
      jumps.append((t, random.int(10...180), isHigh ? 1 / factor : factor))
      isHigh.toggle()
      t += random.int(1440...10 * 1440)
    }
  }

  private mutating func addDips(_ random: inout RandomCounts) {
    var t = random.int(2 * 1440...6 * 1440)
    while t < minutes {
      let end = t + random.int(10...360)
      dips.append((t..<end, random.logUniform(0.01...0.6)))
      t = end + random.int(1440...10 * 1440)
    }
  }

  private mutating func rhythm(_ random: inout RandomCounts, _ ranges: BurstScenarioRanges) {
    dailyRatio = random.uniform(ranges.dailyRatio)
    if random.int(0...2) > 0 || kind == .weekly {
      weekendFactor = random.uniform(ranges.weekendFactor)
    }
  }

  private mutating func wander(_ random: inout RandomCounts, _ ranges: BurstScenarioRanges) {
    wanderSigma = random.uniform(ranges.wanderSigma)
    wanderMinutes = random.uniform(ranges.wanderMinutes)
  }

  private func job(
    _ random: inout RandomCounts, _ ranges: BurstScenarioRanges
  ) -> (minute: Int, length: Int, factor: Double) {
    let minute = random.int(0...59)
    let length = random.int(ranges.jobMinutes)
    return (minute, length, random.uniform(ranges.jobFactor))
  }

  private mutating func addSilences(_ random: inout RandomCounts) {
    var t = random.int(1440...15 * 1440)
    while t < minutes {
      let end = t + random.int(600...6 * 1440)
      silences.append(t..<end)
      t = end + random.int(5 * 1440...25 * 1440)
    }
  }

  /// Adds bursts where at least one call a minute is usual, outside silences and away from each
  /// other. Old licenses have all three kinds from the fifteenth day on. Young ones have a flash
  /// crowd or a loop from the second hour on.
  private mutating func addLabels(_ random: inout RandomCounts, _ ranges: BurstScenarioRanges) {
    let isYoung = kind == .young
    var t = isYoung ? random.int(90...max(minutes - 30, 91)) : random.int(15 * 1440...20 * 1440)
    if kind.isMeasured { t = random.int(3 * 1440...4 * 1440) }
    while t + 30 < minutes {
      let anomaly =
        isYoung ? [.flash, .loop][random.int(0...1)] : Anomaly.allCases[random.int(0...2)]
      let label = label(anomaly, t, &random, ranges)
      let around = (t - 120)..<(t + label.length + 1440)
      let isClear =
        usual(t) >= 1 + 3 * lump && !silences.contains { $0.overlaps(around) }
        && !dips.contains { $0.minutes.overlaps(around) }
      if isClear { labels.append(label) }
      let gap = kind.isMeasured ? 600...2 * 1440 : 6 * 1440...10 * 1440
      t += isClear ? label.length + random.int(gap) : random.int(60...300)
    }
  }

  private func label(
    _ anomaly: Anomaly, _ t: Int, _ random: inout RandomCounts, _ ranges: BurstScenarioRanges
  ) -> Label {
    switch anomaly {
    case .flash where kind.isMeasured:
      let (factor, length) = [(10.0, 5), (5, 10), (20, 2)][random.int(0...2)]
      return Label(anomaly: .flash, start: t, length: length, factor: factor)
    case .flash:
      return Label(
        anomaly: .flash, start: t, length: random.int(ranges.flashMinutes),
        factor: random.uniform(ranges.flashFactor))
    case .loop:
      let minutes = kind.isMeasured ? 8...60 : ranges.loopMinutes
      return Label(
        anomaly: .loop, start: t, length: random.int(minutes),
        factor: random.uniform(ranges.loopFactor))
    case .climb where kind.isMeasured:
      return Label(
        anomaly: .climb, start: t, length: 120, factor: ranges.climbFactor.lowerBound, onset: 30)
    case .climb:
      let factor = random.uniform(ranges.climbFactor)
      return Label(
        anomaly: .climb, start: t, length: random.int(360...1440), factor: factor,
        onset: Int((60 / (factor - 1)).rounded(.up)))
    }
  }
}
