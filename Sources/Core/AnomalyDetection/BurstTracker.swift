/// One license's detector with its two open minutes. `BurstTable` keeps the same in parts.
package struct BurstTracker: Sendable {
  package var detector: BurstDetector
  private var open: OpenMinute
  private var previous: Int64 = 0

  package init(firstMinute: Int32) {
    detector = BurstDetector(firstMinute: firstMinute)
    open = OpenMinute(calls: 0, minute: firstMinute, alarm: .infinity)
  }

  package mutating func add(_ calls: Int64, at minute: Int32) -> Burst? {
    detector.add(calls, at: minute, &open, &previous)
  }
}
