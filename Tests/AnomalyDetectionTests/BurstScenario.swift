import Foundation

/// One license's traffic, minute by minute, with its labelled bursts.
struct BurstScenario {
  enum Kind: String, CaseIterable {
    case steady, overdispersed, wander, daily, weekly, growth, hourlyJob, nightlyJob, daylightSaving
    case silence, young, lumpy, mixed
  }

  enum Anomaly: String, CaseIterable { case flash, loop, climb }

  struct Label {
    var anomaly: Anomaly
    var start: Int
    var length: Int
    /// Of the usual rate; what a loop adds, in multiples of the usual rate at its start.
    var factor: Double
    /// Minutes after the start from which the delay counts.
    var onset = 0
  }

  var kind: Kind
  var minutes: Int
  /// The first minute, since 1970.
  var origin: Int
  var base: Double
  var dispersion = 0.0
  /// Mean calls of an event, where events come in lumps: exponentially distributed.
  var lump = 0.0
  var wanderSigma = 0.0
  var wanderMinutes = 30.0
  var dailyRatio = 1.0
  var weekendFactor = 1.0
  /// Of the local day.
  var peakMinute = 780
  /// Local time is UTC and these minutes.
  var zone = 0
  var growthPerDay = 0.0
  var growthDays = 0
  /// Minute of the hour, length, factor, first minute of the series.
  var hourlyJob: (minute: Int, length: Int, factor: Double)?
  var nightlyJob: (minute: Int, length: Int, factor: Double, firstDay: Int)?
  var shifts: [(minute: Int, by: Int)] = []
  var silences: [Range<Int>] = []
  var labels: [Label] = []
  var seed: UInt64

  /// The expected calls of a minute without bursts, wander and silence.
  func usual(_ t: Int) -> Double {
    var local = origin + t + zone
    for shift in shifts where t >= shift.minute { local += shift.by }
    var rate = base
    if dailyRatio > 1 {
      let phase = 2 * Double.pi * Double((local - peakMinute) % 1440) / 1440
      rate *= pow(dailyRatio, (cos(phase) - 1) / 2)
    }
    // 1970 began on a Thursday.
    let day = (local / 1440 + 3) % 7
    if day >= 5 { rate *= weekendFactor }
    if growthDays > 0 { rate *= pow(1 + growthPerDay, min(Double(t) / 1440, Double(growthDays))) }
    return rate
  }

  private func job(_ t: Int) -> Double {
    var factor = 1.0
    if let job = hourlyJob, ((origin + t) % 60 - job.minute + 60) % 60 < job.length {
      factor = job.factor
    }
    if let job = nightlyJob, t >= job.firstDay * 1440,
      ((origin + t) % 1440 - job.minute + 1440) % 1440 < job.length
    {
      factor = max(factor, job.factor)
    }
    return factor
  }

  /// Calls minute by minute.
  func counts() -> [Int64] {
    var random = RandomCounts(seed: seed)
    var counts = [Int64](repeating: 0, count: minutes)
    let keep = exp(-1 / wanderMinutes)
    let step = wanderSigma * (1 - keep * keep).squareRoot()
    var wander = random.normal() * wanderSigma
    var label = 0
    var silence = 0
    for t in 0..<minutes {
      if wanderSigma > 0 { wander = wander * keep + step * random.normal() }
      while silence < silences.count, t >= silences[silence].upperBound { silence += 1 }
      if silence < silences.count, silences[silence].contains(t) { continue }
      let plain = usual(t)
      var rate = plain * job(t)
      while label < labels.count, t >= labels[label].start + labels[label].length { label += 1 }
      if label < labels.count, t >= labels[label].start { rate = changed(rate, t, labels[label]) }
      rate *= exp(wander - wanderSigma * wanderSigma / 2)
      counts[t] =
        lump > 0
        ? random.compound(rate, lump: lump) : random.negativeBinomial(rate, dispersion: dispersion)
    }
    return counts
  }

  private func changed(_ rate: Double, _ t: Int, _ label: Label) -> Double {
    switch label.anomaly {
    case .flash: rate * label.factor
    case .loop: rate + usual(label.start) * label.factor
    case .climb: rate * (1 + (label.factor - 1) * min(Double(t - label.start) / 60, 1))
    }
  }
}
