import MeteringTestKit
import Testing
import UsageAggregation

/// The machines of this module and the core that they drive, in a world that may crash at every
/// step.
///
/// `METER_TEST_SEED` repeats a run. A failure prints its seed, the step at which a process ends,
/// and the fewest moves that still fail.
@Suite struct SimulationTests {
  private struct Schedule {
    let seed: UInt64
    let ignoresClaims: Bool
    let moves: [UInt64]
    private let log: SimulatedLog
    private let otherLog: SimulatedLog?

    init(seed: UInt64, length: Int, replacesLog: Bool = false, ignoresClaims: Bool = false) {
      self.seed = seed
      self.ignoresClaims = ignoresClaims
      var random = SeededRandom(seed: seed)
      log = SimulatedLog(partitions: 3, records: 24, name: "a", &random)
      otherLog =
        replacesLog ? SimulatedLog(partitions: 3, records: 40, name: "b", &random) : nil
      moves = (0..<length).map { _ in random.next() }
    }

    /// - Returns: the problem, and how many steps there were.
    func run(crashAt: Int? = nil, _ moves: [UInt64]? = nil) -> (problem: String?, effects: Int) {
      let world = SimulatedWorld(log: log, otherLog: otherLog, crashAt: crashAt)
      world.store.ignoresClaims = ignoresClaims
      return (world.run(moves ?? self.moves), world.effects)
    }

    /// Leaves out moves as long as it still fails: halves first, then one by one.
    func minimized(crashAt: Int?) -> [UInt64] {
      var moves = self.moves
      var size = moves.count / 2
      while size >= 1 {
        var start = 0
        while start < moves.count {
          var fewer = moves
          fewer.removeSubrange(start..<min(start + size, moves.count))
          if run(crashAt: crashAt, fewer).problem != nil {
            moves = fewer
          } else {
            start += size
          }
        }
        size /= 2
      }
      return moves
    }

    func expectHolds(crashAt: Int?) -> Bool {
      guard let problem = run(crashAt: crashAt).problem else { return true }
      Issue.record(
        """
        seed \(seed), crash at \(crashAt.map { "\($0)" } ?? "none"): \(problem); fewest moves: \
        \(minimized(crashAt: crashAt))
        """)
      return false
    }
  }

  @Test(arguments: [false, true])
  func `Every event is counted once, whichever step a process ends at`(replacesLog: Bool) {
    var random = SeededRandom(of: "simulation")
    for _ in 0..<3 {
      let schedule = Schedule(seed: random.next(), length: 140, replacesLog: replacesLog)
      let effects = schedule.run().effects
      for crash in [nil] + (0..<effects).map({ $0 }) {
        guard schedule.expectHolds(crashAt: crash) else { return }
      }
    }
  }

  @Test func `Every event is counted once in hundreds of long schedules`() {
    var random = SeededRandom(of: "long simulation")
    for _ in 0..<200 {
      let schedule = Schedule(
        seed: random.next(), length: 400, replacesLog: random.chance(30))
      guard schedule.expectHolds(crashAt: nil) else { return }
    }
  }

  @Test func `A store that ignores claims is found out within a few moves`() throws {
    let broken = (UInt64(1)...200).lazy
      .map { Schedule(seed: $0, length: 400, ignoresClaims: true) }
      .first { $0.run().problem != nil }
    let found = try #require(broken)
    let moves = found.minimized(crashAt: nil)
    #expect(found.run(crashAt: nil, moves).problem != nil)
    #expect(moves.count < 80, "\(moves.count) of \(found.moves.count) moves are left")
  }
}
