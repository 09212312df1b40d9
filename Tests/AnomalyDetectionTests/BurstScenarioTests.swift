import AnomalyDetection
import Foundation
import Testing

/// The labelled scenario set. By default it runs a part of it, over seven weeks. With
/// METER_TEST_BURST_LICENSES=25 it runs all of it, over a quarter, and prints its figures. That is
/// best built with -c release.
@Suite struct BurstScenarioTests {
  enum Set: String, CaseIterable {
    case tuning
    /// Another seed, with other rates, rhythms, jobs and factors. Nobody looked at it while
    /// choosing.
    case heldOut

    var ranges: BurstScenarioRanges { self == .tuning ? .tuning : .heldOut }
    var seed: UInt64 { self == .tuning ? 1 : 4_242 }
  }

  @Test(
    "Bursts are reported in time and once, with less than one false alert per license and quarter",
    arguments: Set.allCases)
  func labelled(_ set: Set) {
    let whole = ProcessInfo.processInfo.environment["METER_TEST_BURST_LICENSES"].flatMap { Int($0) }
    var tally = BurstTally()
    for kind in BurstScenario.Kind.allCases {
      for index in 0..<(kind == .young ? whole.map { 20 * $0 } ?? 20 : whole ?? 2) {
        let scenario = BurstScenario.make(
          kind, index, seed: set.seed, ranges: set.ranges, days: whole == nil ? 49 : 91)
        tally.judge(scenario, alerts: scenario.alerts())
      }
    }
    if whole != nil { print("\(set): \(tally.figures)") }
    for anomaly in BurstScenario.Anomaly.allCases {
      let least = anomaly == .climb ? 0.9 : 0.95
      #expect(tally.total(anomaly).recall >= least, "\(anomaly): \(tally.examples)")
    }
    #expect(tally.total.delay(0.5) <= 2)
    #expect(tally.total(.flash).delay(0.5) <= 2)
    #expect(tally.total(.loop).delay(0.5) <= 2)
    #expect(tally.falsePerQuarter < 1, "\(tally.examples)")
    let repeats = tally.repeats.values.reduce(0, +)
    #expect(Double(repeats) < 0.05 * Double(tally.total.labels), "\(tally.examples)")
  }

  @Test(
    "Rhythms, jobs, growth, silence and daylight saving that are known cause no alert",
    arguments: BurstScenario.Kind.allCases)
  func calm(kind: BurstScenario.Kind) {
    var alerts: [Burst] = []
    for index in 0..<2 {
      let scenario = BurstScenario.make(kind, index, seed: 3, days: 28, withBursts: false)
      alerts += scenario.alerts().filter {
        let minute = Int($0.minute) - scenario.origin
        return minute >= 14 * 1440 && !scenario.isFirstSightOfJob(minute)
      }
    }
    #expect(alerts.isEmpty)
  }

  @Test("A burst ends, and after the cool-down the next one is reported again")
  func endsAndComesAgain() {
    var scenario = BurstScenario.make(.steady, 0, seed: 5, days: 20, withBursts: false)
    scenario.base = 50
    scenario.labels = [14_400, 16_400, 20_000].map {
      .init(anomaly: .flash, start: $0, length: 5, factor: 10)
    }
    let starts = scenario.alerts().map { Int($0.startMinute) - scenario.origin }
    #expect(starts.count == 3)
    for (start, label) in zip(starts, scenario.labels) { #expect(abs(start - label.start) <= 1) }
  }

  @Test("A level that stays is reported once and then is normal")
  func newLevel() {
    var scenario = BurstScenario.make(.steady, 0, seed: 5, days: 40, withBursts: false)
    scenario.base = 50
    scenario.labels = [.init(anomaly: .flash, start: 14_400, length: 26 * 1440, factor: 5)]
    #expect(scenario.alerts().count == 1)
  }

  @Test("A quiet license's odd calls are no burst")
  func quiet() {
    var scenario = BurstScenario.make(.steady, 0, seed: 6, days: 40, withBursts: false)
    scenario.base = 0.01
    #expect(scenario.alerts().isEmpty)
  }
}
