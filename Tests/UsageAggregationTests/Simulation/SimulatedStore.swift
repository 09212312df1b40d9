import MeteringTestKit
import UsageAggregation

/// Kafka's log in memory: each partition's records, some of which repeat earlier ones.
struct SimulatedLog {
  private(set) var ids: [[Int]] = []
  private(set) var views: [[LogRecordView]] = []
  /// How many different events are before each offset, by partition.
  private(set) var distinct: [[Int64]] = []
  private let memory = ByteStore()

  /// - Parameter name: tells the events of two logs apart.
  init(partitions: Int, records: Int, name: String, _ random: inout SeededRandom) {
    for partition in 0..<partitions {
      var ids: [Int] = []
      var views: [LogRecordView] = []
      var distinct: [Int64] = [0]
      var seen: Set<Int> = []
      for offset in 0..<records {
        let repeats = offset > 0 && random.chance(25)
        let id = repeats ? random.pick(ids) : offset
        let text = """
          {"specversion":"1.0","id":"\(name)\(partition)-\(id)","source":"/s",\
          "subject":"lic_\(id % 3)",\
          "type":"license.usage.recorded","time":"2026-11-23T18:40:00Z","data":{"quantity":1}}
          """
        ids.append(id)
        views.append(
          LogRecordView(
            offset: Int64(offset), timestamp: sampleTime + Int64(offset),
            value: memory.copy(bytes(text)), key: memory.copy(bytes("lic_\(id % 3)"))))
        distinct.append(distinct[offset] + (seen.insert(id).inserted ? 1 : 0))
      }
      self.ids.append(ids)
      self.views.append(views)
      self.distinct.append(distinct)
    }
  }

  func end(_ partition: Int32) -> Int64 { Int64(views[Int(partition)].count) }

  func look(_ partition: Int32, remembered: (offset: Int64, hash: Int64)?) -> LogLook {
    var look = LogLook(low: 0, high: end(partition), identity: .unknown)
    guard let remembered else { return look }
    look.identity = .differs
    if remembered.offset < look.high,
      KeyedHash.fingerprint(of: views[Int(partition)][Int(remembered.offset)]) == remembered.hash
    {
      look.identity = .same
    }
    return look
  }
}

/// The part of a flush that goes to the store.
struct SimulatedFlush {
  struct Part: Equatable {
    var expected: Int64
    var next: Int64
    var remembered: (offset: Int64, hash: Int64)?
    var counted: Int64

    static func == (a: Part, b: Part) -> Bool {
      a.expected == b.expected && a.next == b.next && a.counted == b.counted
    }
  }

  var owner: Int
  var parts: [Int32: Part] = [:]
}

/// Offsets and counts, with claims, compare-and-set, and commits whose answers are lost.
struct SimulatedStore {
  struct Row {
    var next: Int64 = 0
    var remembered: (offset: Int64, hash: Int64)?
    var claimedBy: Int?
    var counted: Int64 = 0
  }

  enum Answer {
    case committed
    case refused(Set<Int32>)
    case lost
    case failed
  }

  var rows: [Row]
  /// Used to check the simulation itself: offsets move even without a claim.
  var ignoresClaims = false
  /// A commit whose connection was lost but which the server continues.
  private var running: (SimulatedFlush, Set<Int32>)?
  /// The first difference between what was just stored and the log.
  private(set) var problem: String?
  private let distinct: [[Int64]]

  init(_ log: SimulatedLog) {
    rows = Array(repeating: Row(), count: log.views.count)
    distinct = log.distinct
  }

  mutating func finishLostCommit() {
    if let (flush, partitions) = running { _ = apply(flush, partitions) }
    running = nil
  }

  /// Waits for the commit that holds the row.
  mutating func claim(_ partition: Int32, by owner: Int) -> Row {
    finishLostCommit()
    rows[Int(partition)].claimedBy = owner
    return rows[Int(partition)]
  }

  mutating func write(
    _ flush: SimulatedFlush, _ partitions: Set<Int32>, fault: UInt64
  ) -> Answer {
    switch fault % 10 {
    case 0: return .lost
    case 1: return .failed
    case 2:
      finishLostCommit()
      _ = apply(flush, partitions)
      return .lost
    case 3:
      finishLostCommit()
      running = (flush, partitions)
      return .lost
    default:
      finishLostCommit()
      return apply(flush, partitions)
    }
  }

  /// Answers as `FlushTransaction.fate` does.
  func fate(_ flush: SimulatedFlush, _ partitions: Set<Int32>) -> FlushMachine.Fate {
    var lost = partitions
    for partition in partitions where rows[Int(partition)].claimedBy == flush.owner {
      if rows[Int(partition)].next == flush.parts[partition]?.next { return .stored }
      lost.remove(partition)
    }
    return .notStored(lost: lost)
  }

  /// Applies all of the partitions or none.
  private mutating func apply(_ flush: SimulatedFlush, _ partitions: Set<Int32>) -> Answer {
    let refused = partitions.filter { partition in
      guard let part = flush.parts[partition] else { return false }
      let row = rows[Int(partition)]
      if ignoresClaims { return false }
      return row.claimedBy != flush.owner || row.next != part.expected
    }
    guard refused.isEmpty else { return .refused(refused) }
    for partition in partitions {
      guard let part = flush.parts[partition] else { continue }
      rows[Int(partition)].next = part.next
      rows[Int(partition)].remembered = part.remembered
      rows[Int(partition)].counted += part.counted
      check(partition)
    }
    return .committed
  }

  /// At every moment, the stored counts equal what the log has before the stored offset, each event
  /// once.
  private mutating func check(_ partition: Int32) {
    let row = rows[Int(partition)]
    let expected = distinct[Int(partition)][
      Int(min(row.next, Int64(distinct[Int(partition)].count - 1)))]
    if problem == nil, row.counted != expected {
      problem =
        "partition \(partition): \(row.counted) counted before offset \(row.next), not \(expected)"
    }
  }
}
