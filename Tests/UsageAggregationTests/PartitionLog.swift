import EventCodec
import Metering
import MeteringTestKit
import Recount
import UsageAggregation

/// A random log of a few partitions, in the form in which the aggregator and the recount both read
/// it.
struct PartitionLog {
  static let imports: [Identifier: Int64] = ["books": sampleTime - 300 * 86_400_000]

  /// The records of each partition, in the order of their offsets, which have gaps.
  private(set) var records: [[LogRecord]] = []
  private var random: SeededRandom
  private var sequences: [Int64] = [0, 0, 0]

  init(partitions: Int, records count: Int, window: Int, _ random: SeededRandom) {
    self.random = random
    for partition in 0..<partitions {
      sequences = [0, 0, 0]
      var offset = Int64(self.random.pick([0, 0, 1_000]))
      var records: [LogRecord] = []
      for _ in 0..<count {
        records.append(record(Int32(partition), offset, records, window))
        offset += 1
        if self.random.chance(10) { offset += Int64.random(in: 1...3, using: &self.random) }
        if self.random.chance(1) {
          offset += Int64(window) + Int64.random(in: -1...1, using: &self.random)
        }
      }
      self.records.append(records)
    }
  }

  /// The offset after the last record and after a transaction's marker, which no reader sees.
  func end(_ partition: Int) -> Int64 { (records[partition].last?.offset ?? 0) + 3 }

  private mutating func record(
    _ partition: Int32, _ offset: Int64, _ earlier: [LogRecord], _ window: Int
  ) -> LogRecord {
    var timestamp = sampleTime + offset * 10
    if random.chance(2) { timestamp = -1 }
    var record = LogRecord(
      partition: partition, offset: offset, timestamp: timestamp, key: nil, value: nil)
    if random.chance(20), let old = earlier.suffix(window * 2 + 2).randomElement(using: &random) {
      // These are the same bytes again, as when a producer resends.
      record.key = old.key
      record.value = old.value
      record.deadLetterHeader = old.deadLetterHeader
      return record
    }
    switch Int.random(in: 0..<100, using: &random) {
    case 0..<3: record.key = bytes("l")
    case 3..<6:
      record.value = (0..<20).map { _ in UInt8.random(in: 0...255, using: &random) }
    case 6..<9:
      record.key = bytes("p1")
      record.value = bytes(
        """
        {"specversion":"1.0","id":"r","source":"s","type":"license.producer.reported",\
        "producer":"p1","data":{"accepted":\(offset),"pending":1,"dropped":0,"final":true}}
        """)
    default: usage(&record)
    }
    if random.chance(8) {
      // The dead letter is of any earlier time, and some are requeued twice.
      let dead = Int64.random(in: 0...max(1, offset / 4), using: &random)
      record.deadLetterHeader = "1/license.usage.v1/\(partition)/\(dead)"
    }
    return record
  }

  private mutating func usage(_ record: inout LogRecord) {
    let license = random.pick(["l", "lic_abc123", "é", "e\u{301}"])
    let id = Int.random(in: 0..<400, using: &random)
    var time = sampleTime + Int64.random(in: -7_200_000...3_600_000, using: &random)
    if random.chance(4) { time -= 100 * 86_400_000 }
    if random.chance(2) { time += 5 * 3_600_000 }
    var text =
      """
      {"specversion":"1.0","type":"license.usage.recorded","source":"s\(id % 2)","id":"\(id)",\
      "subject":"\(license)","time":"\(Self.rfc3339(time))"
      """
    if random.chance(4) { text += #","import":"\#(random.pick(["books", "unknown"]))""# }
    if random.chance(80) {
      let producer = Int.random(in: 0..<3, using: &random)
      text += #","producer":"p\#(producer)""#
      if random.chance(90) {
        sequences[producer] += random.chance(90) ? 1 : Int64.random(in: -4...4, using: &random)
        sequences[producer] = max(0, sequences[producer])
        text += ",\"sequence\":\(sequences[producer])"
      }
    } else if random.chance(20) {
      text += #","sequence":7"#
    }
    var data: [String] = []
    if random.chance(70) { data.append("\"quantity\":\(Int.random(in: 0...9, using: &random))") }
    if random.chance(50) { data.append(#""meter":"\#(random.pick(["api_calls", "seats"]))""#) }
    if random.chance(50) { data.append(#""domain":"\#(random.pick(["a", "b\\u002e", "c", ""]))""#) }
    if random.chance(50) { data.append(#""feature":"\#(random.pick(["f", "g"]))""#) }
    if random.chance(3) { data.append(#""quantity":-1"#) }
    text += ",\"data\":{" + data.joined(separator: ",") + "}}"
    record.key = bytes(random.chance(4) ? "other" : license)
    record.value = bytes(text)
  }

  /// Counts days one by one. This is the tests' own calendar.
  static func rfc3339(_ milliseconds: Int64) -> String {
    var day = floorDivide(milliseconds, by: 86_400_000)
    let rest = milliseconds - day * 86_400_000
    var year: Int64 = 1970
    func isLeap(_ year: Int64) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }
    while day >= (isLeap(year) ? 366 : 365) {
      day -= isLeap(year) ? 366 : 365
      year += 1
    }
    let lengths: [Int64] = [31, isLeap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    var month = 0
    while day >= lengths[month] {
      day -= lengths[month]
      month += 1
    }
    func padded(_ number: Int64, _ digits: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: digits - text.count) + text
    }
    return "\(year)-\(padded(Int64(month) + 1, 2))-\(padded(day + 1, 2))T"
      + "\(padded(rest / 3_600_000, 2)):\(padded(rest / 60_000 % 60, 2)):"
      + "\(padded(rest / 1_000 % 60, 2)).\(padded(rest % 1_000, 3))Z"
  }
}

/// The part of the store that a flush needs: compare-and-set of offsets, and sums.
struct ModelStore {
  struct Position: Equatable {
    var nextOffset: Int64 = 0
    var remembered: (offset: Int64, hash: Int64)?

    static func == (left: Position, right: Position) -> Bool {
      left.nextOffset == right.nextOffset && left.remembered?.offset == right.remembered?.offset
        && left.remembered?.hash == right.remembered?.hash
    }
  }

  var positions: [Int32: Position] = [:]
  var rows: [UsageRow: UsageSum] = [:]
  var deadLetters: [LogPosition: String] = [:]
  var producers: [Int32: [[UInt8]: ProducerState]] = [:]
  var requeued: Set<DeadLetterKey> = []
  var reports = 0
  /// Problems of batches that were stored whole.
  var problems: [String] = []

  /// Adds up the counts, as `flush_producers` does if there is a report of each producer.
  private mutating func add(_ state: ProducerState, _ partition: Int32) {
    var sum = state
    if let before = producers[partition]?[state.name] {
      sum.counted += before.counted
      sum.duplicates += before.duplicates
      sum.repeated += before.repeated
      sum.deadLettered += before.deadLettered
    }
    if state.isForgotten {
      sum.sequence = -1
      sum.deadSequence = -1
    }
    producers[partition, default: [:]][state.name] = sum
  }

  /// One transaction. It leaves out the share of partitions that are `lost` or without progress.
  mutating func write(_ batch: LogBatch, lost: Set<Int32> = []) {
    if batch.progress.map(\.partition) != batch.progress.map(\.partition).sorted() {
      problems.append("progress out of the order of partitions")
    }
    var mine: Set<Int32> = []
    for progress in batch.progress where !lost.contains(progress.partition) {
      let partition = progress.partition
      mine.insert(partition)
      let stored = positions[partition] ?? Position()
      if stored.nextOffset != progress.expectedOffset {
        problems.append("\(partition) is at \(stored.nextOffset), not \(progress.expectedOffset)")
      }
      if progress.nextOffset <= stored.nextOffset { problems.append("\(partition) went back") }
      if progress.lastRecordOffset >= progress.nextOffset { problems.append("a record ahead") }
      positions[partition] = Position(
        nextOffset: progress.nextOffset,
        remembered: progress.lastRecordOffset < 0
          ? nil : (progress.lastRecordOffset, progress.lastRecordHash))
      for state in progress.producers { add(state, partition) }
    }
    for (row, sum) in batch.table.rows() where mine.contains(row.partition) {
      var total = rows[row] ?? UsageSum()
      total.quantity += sum.quantity
      total.events += sum.events
      total.first = min(total.first, sum.first)
      total.last = max(total.last, sum.last)
      rows[row] = total
    }
    for letter in batch.deadLetters where mine.contains(letter.partition) {
      let position = LogPosition(partition: letter.partition, offset: letter.offset)
      if deadLetters.updateValue(letter.reason.rawValue, forKey: position) != nil {
        problems.append("a dead letter twice: \(position)")
      }
    }
    for letter in batch.requeued where mine.contains(letter.partition) {
      if !requeued.insert(letter.key).inserted {
        problems.append("a dead letter settled twice: \(letter.key)")
      }
    }
    reports += batch.reports.count { mine.contains($0.partition) }
  }
}
