import MeteringTestKit
import Testing
import UsageAggregation

@Suite struct FlushMachineTests {
  private func machine(_ partitions: Set<Int32> = [0, 1]) -> FlushMachine {
    FlushMachine(partitions: partitions, movesOffsets: true, startedAt: 0)
  }

  @Test func `a flush that is committed is over`() {
    var flush = machine()
    #expect(flush.start() == .write([0, 1]))
    #expect(flush.committed() == .finish(isStored: true))
    #expect(flush.takenOver == [])
  }

  @Test func `a refused partition is dropped, and the rest is written`() {
    var flush = machine()
    #expect(flush.refused([1]) == .write([0]))
    #expect(flush.committed() == .finish(isStored: true))
    #expect(flush.takenOver == [1])
  }

  @Test func `a flush whose partitions are all taken over stores nothing`() {
    var flush = machine()
    #expect(flush.refused([0, 1]) == .finish(isStored: false))
  }

  @Test func `a refusal that names no partition ends the flush`() {
    var flush = machine()
    #expect(flush.refused([]) == .finish(isStored: false))
    #expect(flush.takenOver == [0, 1])
  }

  @Test func `after a lost connection the offsets are read before anything is written`() {
    var flush = machine()
    let retry = flush.failed(.connectionLost, at: 0, patience: 60_000)
    #expect(retry == .retry(afterMilliseconds: 20))
    #expect(flush.resumed() == .askFate([0, 1]))
    #expect(flush.fate(.stored) == .finish(isStored: true))
  }

  @Test func `a commit that did not happen is written again, without what was lost`() {
    var flush = machine()
    _ = flush.failed(.connectionLost, at: 0, patience: 60_000)
    _ = flush.resumed()
    #expect(flush.fate(.notStored(lost: [1])) == .write([0]))
    #expect(flush.takenOver == [1])
  }

  @Test func `a refusal after a lost commit may be its own, and the offsets tell`() {
    var flush = machine()
    _ = flush.failed(.connectionLost, at: 0, patience: 60_000)
    _ = flush.resumed()
    _ = flush.fate(.notStored(lost: []))
    #expect(flush.refused([0, 1]) == .askFate([0, 1]))
    #expect(flush.state == .refusedWhileUncertain)
    #expect(flush.fate(.stored) == .finish(isStored: true))
    #expect(flush.takenOver == [])
  }

  @Test func `a second refusal is believed`() {
    var flush = machine()
    _ = flush.failed(.connectionLost, at: 0, patience: 60_000)
    _ = flush.resumed()
    _ = flush.fate(.notStored(lost: []))
    _ = flush.refused([0])
    #expect(flush.fate(.notStored(lost: [])) == .write([0, 1]))
    #expect(flush.refused([0]) == .write([1]))
  }

  @Test func `the question about the fate is asked again until it is answered`() {
    var flush = machine()
    _ = flush.failed(.connectionLost, at: 0, patience: 60_000)
    #expect(flush.resumed() == .askFate([0, 1]))
    _ = flush.failed(.refusedByDatabase, at: 0, patience: 60_000)
    #expect(flush.resumed() == .askFate([0, 1]))
  }

  @Test func `a statement that is refused leaves no doubt`() {
    var flush = machine()
    _ = flush.failed(.refusedByDatabase, at: 0, patience: 60_000)
    #expect(flush.resumed() == .write([0, 1]))
    #expect(flush.refused([0, 1]) == .finish(isStored: false))
  }

  @Test func `pauses double up to a second`() {
    var flush = machine()
    let pauses = (0..<8).map { _ in flush.failed(.refusedByDatabase, at: 0, patience: 60_000) }
    #expect(
      pauses
        == [20, 40, 80, 160, 320, 640, 1_000, 1_000].map { .retry(afterMilliseconds: $0) })
  }

  @Test func `patience ends`() {
    var flush = machine()
    _ = flush.failed(.connectionLost, at: 60_000, patience: 60_000)
    #expect(flush.failed(.connectionLost, at: 60_001, patience: 60_000) == .giveUp)
  }

  @Test func `a requeued dead letter that was counted meanwhile ends the flush`() {
    var flush = machine()
    #expect(flush.failed(.requeueRefused, at: 0, patience: 60_000) == .giveUp)
  }

  @Test func `cargo without offsets is written again`() {
    var flush = FlushMachine(partitions: [0], movesOffsets: false, startedAt: 0)
    _ = flush.failed(.connectionLost, at: 0, patience: 60_000)
    #expect(flush.resumed() == .write([0]))
  }

  /// Runs ten thousand schedules. The store loses connections before, during and after the commit,
  /// goes on with a lost commit later, and gives partitions to other processes at any moment.
  @Test func `each partition is stored once, or belongs to another process`() {
    for seed in 0..<10_000 {
      var random = SeededRandom(seed: UInt64(seed))
      var store = OffsetsModel(random: random)
      var flush = machine([0, 1, 2])
      var action = flush.start()
      var steps = 0
      steps: while true {
        steps += 1
        guard steps < 200 else {
          Issue.record("seed \(seed): the flush does not end")
          return
        }
        store.somethingHappens()
        switch action {
        case .write(let partitions):
          action =
            switch store.write(partitions) {
            case .committed: flush.committed()
            case .refused(let lost): flush.refused(lost)
            case .lost: flush.failed(.connectionLost, at: 0, patience: 60_000)
            case .failed: flush.failed(.refusedByDatabase, at: 0, patience: 60_000)
            }
        case .askFate(let partitions):
          action =
            random.next() % 4 == 0
            ? flush.failed(.connectionLost, at: 0, patience: 60_000)
            : flush.fate(store.fate(partitions))
        case .retry: action = flush.resumed()
        case .finish, .giveUp: break steps
        }
      }
      store.finishLostCommit()
      for partition in Int32(0)..<3 {
        let times = store.applied[partition, default: 0]
        #expect(times <= 1, "seed \(seed): partition \(partition) is stored \(times) times")
        if !flush.takenOver.contains(partition) {
          #expect(times == 1, "seed \(seed): partition \(partition) is not stored")
        }
      }
    }
  }
}

/// Offsets with compare-and-set. A partition that another process has claimed stays refused.
private struct OffsetsModel {
  enum Answer {
    case committed
    case refused(Set<Int32>)
    case lost
    case failed
  }

  var random: SeededRandom
  /// How often this flush's work was applied to each partition.
  var applied: [Int32: Int] = [:]
  private var claimedByOthers: Set<Int32> = []
  /// A commit whose connection was lost but which the server continues.
  private var running: Set<Int32>?

  init(random: SeededRandom) { self.random = random }

  mutating func somethingHappens() {
    // A claim waits for the commit that holds the partition's row.
    if random.next() % 10 == 0, running == nil {
      claimedByOthers.insert(Int32(random.next() % 3))
    }
    if random.next() % 2 == 0 { finishLostCommit() }
  }

  mutating func finishLostCommit() {
    if let running { _ = apply(running) }
    running = nil
  }

  mutating func write(_ partitions: Set<Int32>) -> Answer {
    switch random.next() % 8 {
    case 0: return .lost
    case 1: return .failed
    case 2:
      // The lost commit has locked the rows, so this attempt waits for it.
      finishLostCommit()
      _ = apply(partitions)
      return .lost
    case 3:
      finishLostCommit()
      running = partitions
      return .lost
    default:
      finishLostCommit()
      return apply(partitions)
    }
  }

  /// Applies all of the partitions or none.
  private mutating func apply(_ partitions: Set<Int32>) -> Answer {
    let refused = partitions.filter { claimedByOthers.contains($0) || applied[$0] != nil }
    guard refused.isEmpty else { return .refused(refused) }
    for partition in partitions { applied[partition, default: 0] += 1 }
    return .committed
  }

  func fate(_ partitions: Set<Int32>) -> FlushMachine.Fate {
    let mine = partitions.subtracting(claimedByOthers)
    if mine.contains(where: { applied[$0] != nil }) { return .stored }
    return .notStored(lost: partitions.subtracting(mine))
  }
}
