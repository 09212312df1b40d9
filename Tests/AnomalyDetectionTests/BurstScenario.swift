import Foundation
import MeteringTestKit

/// One license's traffic, minute by minute, with its labelled bursts.
struct BurstScenario {
  enum Kind: String, CaseIterable {
    case steady, overdispersed, wander, daily, weekly, growth, hourlyJob, nightlyJob, daylightSaving
    case silence, young, lumpy, mixed
    /// Request and ingress rates of production services look like these. Hours differ by a factor
    /// of up to two, and a little from day to day. Levels jump, there are outages, and there are
    /// peaks on the hour.
    case uneven, jumping, outages

    var isMeasured: Bool { self == .uneven || self == .jumping || self == .outages }
  }

  enum Anomaly: String, CaseIterable { case flash, loop, climb }

  struct Label {
    var anomaly: Anomaly
    var start: Int
    var length: Int
    /// The factor of the usual rate. A loop adds this multiple of the usual rate at its start.
    var factor: Double
    /// The delay counts from this many minutes after the start.
    var onset = 0
  }

  var kind: Kind
  var minutes: Int
  /// The first minute, in minutes since 1970.
  var origin: Int
  var base: Double
  var dispersion = 0.0
  /// The mean number of calls of an event, if calls come in lumps. It is exponentially distributed.
  var lump = 0.0
  var wanderSigma = 0.0
  var wanderMinutes = 30.0
  var dailyRatio = 1.0
  var weekendFactor = 1.0
  /// The minute of the local day with the peak.
  var peakMinute = 780
  /// Local time is UTC plus these minutes.
  var zone = 0
  var growthPerDay = 0.0
  var growthDays = 0
  /// The minute of the hour, the length, the factor, and the first minute of the series.
  var hourlyJob: (minute: Int, length: Int, factor: Double)?
  var nightlyJob: (minute: Int, length: Int, factor: Double, firstDay: Int)?
  var shifts: [(minute: Int, by: Int)] = []
  var silences: [Range<Int>] = []
  /// The factors of the UTC day's hours, and how much one day's hours differ from them (σ of the
  /// logarithm).
  var hourFactors: [Double] = []
  var hourSigma = 0.0
  /// From a minute on, the rate is multiplied by the factor, which is reached within `over`
  /// minutes.
  var jumps: [(minute: Int, over: Int, factor: Double)] = []
  /// Minutes in which only a share of the calls is left.
  var dips: [(minutes: Range<Int>, share: Double)] = []
  /// A peak in the first minutes of each hour, as batches cause it.
  var batch: (minutes: Int, factor: Double)?
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
    if !hourFactors.isEmpty { rate *= unevenFactor(origin + t) }
    for jump in jumps where t >= jump.minute {
      rate *= pow(jump.factor, min(Double(t - jump.minute) / Double(jump.over), 1))
    }
    if growthDays > 0 { rate *= pow(1 + growthPerDay, min(Double(t) / 1440, Double(growthDays))) }
    return rate
  }

  /// Interpolates between the middles of the hours.
  private func unevenFactor(_ minute: Int) -> Double {
    let place = minute - 30
    let part = Double(place % 60) / 60
    return hourFactor(place / 60) * (1 - part) + hourFactor(place / 60 + 1) * part
  }

  private func hourFactor(_ hour: Int) -> Double {
    var random = SeededRandom(seed: seed &+ UInt64(hour))
    let unit = Double(random.next() >> 11) * 0x1p-53
    return hourFactors[hour % 24] * exp(hourSigma * (2 * unit - 1) * 1.7)
  }

  private func job(_ t: Int) -> Double {
    var factor = 1.0
    if let batch, (origin + t) % 60 < batch.minutes { factor = batch.factor }
    for dip in dips where dip.minutes.contains(t) { factor *= dip.share }
    if let job = hourlyJob, ((origin + t) % 60 - job.minute + 60) % 60 < job.length {
      factor = max(factor, job.factor)
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
