import MeteringTestKit
import UsageAggregation

/// Two consumers, their group, the log, the store and the clock. A list of moves says what happens.
/// Each is a number that decides who does what and what goes wrong. The same moves make the same
/// world.
final class SimulatedWorld {
  private(set) var log: SimulatedLog
  var store: SimulatedStore
  var now = 0
  /// How often a consumer has touched something outside of itself.
  private(set) var effects = 0
  private let crashAt: Int?
  private var random = SeededRandom(seed: 0)
  private var isCalm = false
  private var consumers: [SimulatedConsumer] = []
  private var owners: [Int]
  private var incarnations = 0
  private let otherLog: SimulatedLog?
  private(set) var isLogReplaced = false

  /// - Parameters:
  ///   - crashAt: the number of the effect before which the process ends.
  ///   - otherLog: replaces the log at some time.
  init(log: SimulatedLog, otherLog: SimulatedLog? = nil, crashAt: Int? = nil) {
    self.log = log
    self.otherLog = otherLog
    self.crashAt = crashAt
    store = SimulatedStore(log)
    owners = Array(repeating: 0, count: log.views.count)
    consumers = [0, 1].map { _ in makeConsumer() }
    for partition in owners.indices {
      owners[partition] = partition % 2
      consumers[partition % 2].inbox.append(.assigned(Int32(partition)))
    }
  }

  private func makeConsumer() -> SimulatedConsumer {
    incarnations += 1
    return SimulatedConsumer(self, owner: incarnations)
  }

  func effect() throws {
    effects += 1
    if effects - 1 == crashAt { throw SimulatedEnd() }
  }

  func fault() -> UInt64 { isCalm ? 9 : random.next() }

  /// Carries out the moves, then lets everything come to rest.
  /// - Returns: what is wrong in the end; nil if every event is counted once.
  func run(_ moves: [UInt64]) -> String? {
    for move in moves {
      random = SeededRandom(seed: move)
      now += Int(random.next() % 120)
      step()
      if let problem = store.problem { return problem }
    }
    return rest()
  }

  private func step() {
    let number = Int(random.next() % 2)
    let kind = random.next() % 24
    var choices = SeededRandom(seed: random.next())
    alive(number) { consumer in
      switch kind {
      case 0..<8: try consumer.poll(&choices)
      case 8..<12:
        consumer.flushIfDue()
        try consumer.stepFlush()
      case 12..<15: try consumer.ask()
      case 15..<18: try consumer.answer(isUnreachable: choices.chance(10))
      case 18..<20: try consumer.listen()
      case 20: consumer.doubtAll()
      case 21: store.finishLostCommit()
      case 22: rebalance()
      default:
        if choices.chance(20) { replaceLog() }
      }
    }
  }

  /// Lets a consumer act. If it ends, a new process follows and is assigned the same partitions.
  private func alive(_ number: Int, _ act: (SimulatedConsumer) throws -> Void) {
    do {
      try act(consumers[number])
    } catch {
      consumers[number] = makeConsumer()
      for (partition, owner) in owners.enumerated() where owner == number {
        consumers[number].inbox.append(.assigned(Int32(partition)))
      }
    }
  }

  /// A partition moves. The consumer that had it learns of that later, and may go on meanwhile.
  private func rebalance() {
    let partition = Int(random.next() % UInt64(owners.count))
    consumers[owners[partition]].inbox.append(.revoked(Int32(partition)))
    owners[partition] = 1 - owners[partition]
    consumers[owners[partition]].inbox.append(.assigned(Int32(partition)))
  }

  /// The topic is created again. Kafka's client shows a sign of it before it brings anything from
  /// the new log.
  private func replaceLog() {
    guard let otherLog, !isLogReplaced, store.rows.allSatisfy({ $0.remembered != nil }) else {
      return
    }
    isLogReplaced = true
    log = otherLog
    for consumer in consumers { consumer.doubtAll() }
  }

  /// Nothing goes wrong any more, so everything must be counted in the end.
  private func rest() -> String? {
    isCalm = true
    var choices = SeededRandom(seed: UInt64(now))
    // A log that was replaced is never counted. A shorter time is enough to see that.
    for _ in 0..<(isLogReplaced ? 40 : 600) {
      now += 500
      store.finishLostCommit()
      for number in consumers.indices {
        alive(number) { consumer in
          while !consumer.inbox.isEmpty { try consumer.listen() }
          try consumer.ask()
          for _ in owners { try consumer.answer(isUnreachable: false) }
          for _ in 0..<6 { try consumer.poll(&choices) }
          consumer.flushIfDue()
          for _ in 0..<8 { try consumer.stepFlush() }
        }
      }
      if let problem = store.problem { return problem }
      if isDone { return nil }
    }
    if isLogReplaced { return nil }
    return "what is left is never counted: \(store.rows.map(\.next))"
  }

  private var isDone: Bool {
    guard !isLogReplaced else { return false }
    return store.rows.indices.allSatisfy { store.rows[$0].next == log.end(Int32($0)) }
  }
}
