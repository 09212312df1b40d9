import AnomalyDetection
import Foundation
import MeteringTestKit
import Testing

/// Seeded series: what must be reported once, and what must not be reported.
@Suite struct SeriesDetectorTests {
  /// Gaussian noise by the method of Box and Muller.
  private static func noise(_ random: inout SeededRandom) -> Double {
    let u = Double.random(in: Double.leastNonzeroMagnitude..<1, using: &random)
    let v = Double.random(in: 0..<1, using: &random)
    return (-2 * log(u)).squareRoot() * cos(2 * .pi * v)
  }

  /// The rows at which something was detected.
  private static func detections(_ values: [Double]) -> [Int] {
    var detector = SeriesDetector()
    return values.indices.filter { detector.observe(values[$0], at: Int64($0) * 5).isDetection }
  }

  private static func daily(_ rows: Int, _ random: inout SeededRandom) -> [Double] {
    (0..<rows).map { 100 + 40 * sin(2 * .pi * Double($0) / 288) + 4 * noise(&random) }
  }

  @Test("Noise and a daily rhythm are seldom an anomaly", arguments: 1...8)
  func calm(seed: Int) {
    var random = SeededRandom(seed: UInt64(seed))
    let found = Self.detections(Self.daily(4_000, &random))
    #expect(found.filter { $0 > 600 }.count <= 3, "\(found)")
  }

  @Test("A flash crowd is reported within three rows, and once while it lasts", arguments: 1...8)
  func flashCrowd(seed: Int) {
    var random = SeededRandom(seed: UInt64(seed))
    var values = Self.daily(4_000, &random)
    for row in 3_000..<3_020 { values[row] *= 10 }
    let found = Self.detections(values).filter { (3_000..<3_020).contains($0) }
    #expect(!found.isEmpty && found[0] < 3_003 && found.count <= 2, "\(found)")
  }

  @Test("A level that stays elsewhere is reported, and then becomes normal", arguments: 1...8)
  func newLevel(seed: Int) {
    var random = SeededRandom(seed: UInt64(seed))
    let values = (0..<8_000).map { ($0 < 3_000 ? 100.0 : 250) + 5 * Self.noise(&random) }
    let found = Self.detections(values)
    #expect(found.contains { (3_000..<3_010).contains($0) })
    #expect(found.filter { $0 > 5_000 }.count <= 3, "\(found)")
  }

  @Test("The score is always in [0, 1], and a value that is not finite changes nothing")
  func extremes() {
    var detector = SeriesDetector()
    var random = SeededRandom(seed: 1)
    let odd: [Double] = [
      0, -0.0, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, .leastNonzeroMagnitude, 1e-300,
      -1, 1,
    ]
    for row in 0..<20_000 {
      let value = odd.randomElement(using: &random)!
      let score = detector.observe(value, at: Int64(row) * 7 - 9_000).score
      #expect((0...1).contains(score))
    }
    var one = SeriesDetector()
    var other = SeriesDetector()
    for row in 0..<500 {
      let value = Double(row % 7)
      let judged = one.observe(value, at: Int64(row))
      for strange in [Double.nan, .infinity, -.infinity] {
        #expect(other.observe(strange, at: Int64(row)).score == 0)
      }
      #expect(other.observe(value, at: Int64(row)) == judged)
    }
  }

  @Test func `A constant series is no anomaly, and its first value that is far off is one`() {
    let constant = Array(repeating: 500.0, count: 1_000)
    #expect(Self.detections(constant + [1_000]) == [1_000])
    #expect(Self.detections(constant + [0]) == [1_000])
  }

  @Test func `A small step of a steady series is no anomaly, however steady it was`() {
    let constant = Array(repeating: 500.0, count: 1_000)
    for value in [600.0, 650, 400, 350] {
      #expect(Self.detections(constant + Array(repeating: value, count: 20)).isEmpty)
    }
  }

  @Test func `A rare single call is chance, but the same in a series without counts is reported`() {
    let rare = (0..<2_000).map { $0 % 71 == 70 ? 1.0 : 0 }
    #expect(Self.detections(rare).isEmpty)
    #expect(!Self.detections(rare + Array(repeating: 9, count: 3)).isEmpty)
    // Half a call is no call, so these are measurements, and the first peaks are far off.
    #expect(!Self.detections(rare.map { $0 / 2 }).isEmpty)
  }

  @Test("A row is judged only by those before it")
  func noLookAhead() {
    var random = SeededRandom(seed: 3)
    let values = Self.daily(2_000, &random)
    var whole = SeriesDetector()
    let scores = values.indices.map { whole.observe(values[$0], at: Int64($0) * 5).score }
    for end in [1, 50, 51, 700, 1_999] {
      var part = SeriesDetector()
      let some = (0..<end).map { part.observe(values[$0], at: Int64($0) * 5).score }
      #expect(some == Array(scores[..<end]))
    }
  }

  @Test("The state of a series is small")
  func size() { #expect(MemoryLayout<SeriesDetector>.size <= 1_024) }
}
