import MeteringTestKit
import Testing

@testable import AnomalyDetection

/// Three weeks of totals of ten minutes: a daily and weekly rhythm, and the anomalies that a test
/// adds.
@Suite struct UsageWatchTests {
  private static let start: Int64 = 29_700_000 / 10_080 * 10_080
  private static let weeks = 3

  private struct Told: Equatable {
    var direction: UsageAnomaly.Direction
    var hasEnded: Bool
    var row: Int
  }

  private static func rate(_ row: Int) -> Double {
    let minute = row * 10
    let hour = minute / 60 % 24
    let day = minute / 1440 % 7
    let byDay = [
      0.3, 0.25, 0.2, 0.2, 0.25, 0.4, 0.6, 0.8, 1, 1.2, 1.3, 1.3, 1.2, 1.25, 1.3, 1.2, 1.1, 1, 0.9,
      0.8, 0.7, 0.6, 0.5, 0.4,
    ]
    return 2_000 * byDay[hour] * (day >= 5 ? 0.5 : 1)
  }

  private static func told(
    seed: UInt64, _ change: (Int, Double) -> Double = { $1 }
  ) -> [Told] {
    var random = RandomCounts(seed: seed)
    var watch = UsageWatch()
    var told: [Told] = []
    for row in 0..<(weeks * 1_008) {
      let mean = change(row, rate(row))
      let calls = mean > 0 ? Double(random.negativeBinomial(mean, dispersion: 0.01)) : 0
      guard let found = watch.observe(calls, at: start + Int64(row) * 10) else { continue }
      told.append(Told(direction: found.direction, hasEnded: found.hasEnded, row: row))
    }
    return told
  }

  @Test("The rhythm of days and weeks is no anomaly once it is known", arguments: 1...4)
  func calm(seed: Int) {
    let told = Self.told(seed: UInt64(seed)).filter { $0.row > 1_008 }
    #expect(told.isEmpty, "\(told)")
  }

  @Test("Calls that stop are reported once, within half an hour, and once when they come back")
  func stopped() {
    let silent = 2_300..<2_450
    let told = Self.told(seed: 5) { silent.contains($0) ? 0 : $1 }.filter { $0.row > 1_500 }
    #expect(told.map(\.direction) == [.stopped, .stopped], "\(told)")
    #expect(told.map(\.hasEnded) == [false, true])
    #expect(told.first.map { $0.row - 2_300 < 3 } == true)
    #expect(told.last.map { $0.row - 2_450 < 3 } == true)
  }

  @Test("Far too many and far too few calls are reported once, and once when they end")
  func highAndLow() {
    let told = Self.told(seed: 6) {
      (2_000..<2_012).contains($0) ? $1 * 6 : (2_500..<2_512).contains($0) ? $1 * 0.05 : $1
    }.filter { $0.row > 1_500 }
    #expect(told.map(\.direction) == [.high, .high, .low, .low], "\(told)")
    #expect(told.map(\.hasEnded) == [false, true, false, true])
    #expect(told.first?.row == 2_000)
  }

  @Test(arguments: 1...4)
  func `A third of the calls by day and six times as many by night are reported with their end`(
    seed: Int
  ) {
    for (row, factor, direction) in [
      (2_016 + 66, 0.3, UsageAnomaly.Direction.low), (2_016 + 18, 6, .high),
    ] {
      let told = Self.told(seed: UInt64(seed)) {
        (row..<row + 12).contains($0) ? $1 * factor : $1
      }.filter { $0.row > 1_500 }
      #expect(told.map(\.direction) == [direction, direction], "\(told)")
      #expect(told.first?.row == row)
      #expect(told.last.map { (row + 12..<row + 16).contains($0.row) } == true, "\(told)")
    }
  }

  @Test func `Calls that become few and then stop are reported as low, and then as stopped`() {
    let told = Self.told(seed: 11) {
      (2_080..<2_092).contains($0) ? $1 * 0.05 : (2_092..<2_150).contains($0) ? 0 : $1
    }.filter { $0.row > 1_500 }
    #expect(told.map(\.direction) == [.low, .low, .stopped, .stopped], "\(told)")
    #expect(told.map(\.hasEnded) == [false, true, false, true])
  }

  @Test func `A flood that ends in far too few calls has ended, and the few are reported`() {
    let told = Self.told(seed: 12) {
      (2_080..<2_086).contains($0) ? $1 * 6 : (2_086..<2_098).contains($0) ? $1 * 0.05 : $1
    }.filter { $0.row > 1_500 }
    #expect(told.map(\.direction) == [.high, .high, .low, .low], "\(told)")
    #expect(told.map(\.hasEnded) == [false, true, false, true])
  }

  @Test("A customer who never calls on weekends has not stopped on the next one")
  func weekends() {
    let told = Self.told(seed: 7) { ($0 * 10 / 1440) % 7 >= 5 ? 0 : $1 }
    #expect(!told.contains { $0.direction == .stopped && $0.row >= 1_008 }, "\(told)")
  }

  @Test func `A state of the previous version is read and continued without an alert`() throws {
    var random = RandomCounts(seed: 10)
    var watch = UsageWatch()
    for row in 0..<2_016 {
      _ = watch.observe(
        Double(random.poisson(Self.rate(row))), at: Self.start + Int64(row) * 10)
    }
    let bytes = watch.state()
    // The earlier state lacks the two mean sizes, the rhythm's rows, and whether there are only
    // counts.
    let earlier = [1] + bytes[1..<41] + bytes[49..<65] + bytes[73..<81] + bytes[90...]
    var again = try #require(UsageWatch(state: Array(earlier)))
    #expect(again.band(at: Self.start).expected == watch.band(at: Self.start).expected)
    for row in 2_016..<3_024 {
      let calls = Double(random.poisson(Self.rate(row)))
      #expect(again.observe(calls, at: Self.start + Int64(row) * 10) == nil)
    }
    #expect(UsageWatch(state: Array(earlier.dropLast())) == nil)
  }

  @Test("A state comes back as it was; another version's, a shorter or a damaged one does not")
  func state() throws {
    var random = RandomCounts(seed: 8)
    var watch = UsageWatch()
    for row in 0..<1_500 {
      _ = watch.observe(
        Double(random.poisson(Self.rate(row))), at: Self.start + Int64(row) * 10)
    }
    let bytes = watch.state()
    #expect(bytes.count < 1_024)
    var again = try #require(UsageWatch(state: bytes))
    for row in 1_500..<2_000 {
      let calls = row < 1_700 ? Double(random.poisson(Self.rate(row))) : 0
      let minute = Self.start + Int64(row) * 10
      #expect(again.observe(calls, at: minute) == watch.observe(calls, at: minute))
    }
    #expect(again.state() == watch.state())
    #expect(UsageWatch(state: [UsageWatch.version + 1] + bytes.dropFirst()) == nil)
    #expect(UsageWatch(state: Array(bytes.dropLast())) == nil)
    #expect(UsageWatch(state: []) == nil)
    for place in 1..<bytes.count {
      var damaged = bytes
      damaged[place] ^= 0x7F
      guard var odd = UsageWatch(state: damaged) else { continue }
      for row in 0..<20 { _ = odd.observe(Double(row * 100), at: Self.start + Int64(row) * 10) }
    }
  }
}
