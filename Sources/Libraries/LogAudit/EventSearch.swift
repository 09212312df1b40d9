import JSONText
package import KafkaTransport
import Metering
package import PostgresStore
package import Recount

/// Finds one event in the log by its id, and says what happened to it.
///
/// The log has no index by id. So its newest offsets are read, bounded in number and in time, and
/// the answer says which offsets those are. The events that are found are judged with the records
/// of a dedupe window before them, by the same code as in `reconcile` and `explain`.
package struct EventSearch {
  package enum Outcome: Sendable, Equatable {
    case counted
    /// It is a duplicate. The offset is that of the earlier sighting, if that was read as well.
    case duplicate(Decision.Cause, of: Int64?)
    case deadLetter(reason: String, detail: String)
    /// It lies after everything that is counted so far.
    case pending
  }

  package struct Sighting: Sendable {
    package var partition: Int32
    package var logEpoch: Int32
    package var offset: Int64
    /// The record's timestamp in milliseconds since 1970. It is negative if the record has none.
    package var recordTime: Int64
    /// The event. Nil for a dead letter.
    package var event: UsageEvent?
    package var outcome: Outcome
  }

  /// The half-open range of offsets that was read of a partition.
  package struct Stretch: Sendable {
    package var partition: Int32
    package var logEpoch: Int32
    package var from: Int64
    package var to: Int64
  }

  package private(set) var sightings: [Sighting] = []
  package private(set) var searched: [Stretch] = []
  /// Whether the deadline came before everything was read.
  package private(set) var wasCutOff = false

  private let id: String
  private let source: String?
  private let deadline: ContinuousClock.Instant
  /// The end of the time for finding records. The rest is for judging those that were found.
  private let searchEnd: ContinuousClock.Instant
  private var stored: StoredUsage
  private let requeues: Requeues
  private let topic: String

  /// The largest number of sightings that are looked at.
  private static let mostSightings = 50
  /// The same for records that are not JSON and contain the id somewhere.
  private static let mostTexts = 10

  private struct TimeIsUp: Error {}

  /// - Parameters:
  ///   - offsets: how many offsets to read at most, shared evenly by the partitions.
  ///   - deadline: when to stop reading.
  package init(
    _ connection: PostgresConnection, _ reader: LogReader, group: String, topic: String, id: String,
    source: String?, settings: RecountSettings, offsets: Int64, deadline: ContinuousClock.Instant
  ) throws {
    self.id = id
    self.source = source
    self.topic = topic
    self.deadline = deadline
    searchEnd = deadline - (deadline - .now) / 4
    let reads = UsageReads(connection)
    stored = try reads.atOneSnapshot {
      var stored = StoredUsage(range: UsageReads.Minutes())
      try stored.readPositions(connection, group: group, topic: topic)
      return stored
    }
    requeues = Requeues(connection, topic: topic, stored)
    let found = try candidates(reader, offsets: offsets)
    var settings = settings
    settings.importBatches = stored.importBatches
    let windows = stored.windows
    settings.windows = { windows[$0] ?? [] }
    for (partition, offsets) in found.sorted(by: { $0.key < $1.key }) {
      try judge(reader, settings, partition, offsets)
    }
  }

  /// The places of records that have the id or may have it.
  private mutating func candidates(
    _ reader: LogReader, offsets: Int64
  ) throws -> [Int32: [Int64]] {
    let count = try reader.partitionCount(topic) ?? 0
    let share = max(1, offsets / Int64(max(count, 1)))
    var ranges: [LogReader.Range] = []
    for partition in 0..<Int32(count) {
      let place = TopicPartition(topic: topic, partition: partition)
      let (low, high) = try reader.watermarks(place)
      let range = LogReader.Range(place, from: max(low, high - share), to: high)
      ranges.append(range)
      searched.append(
        Stretch(
          partition: partition, logEpoch: stored.positions[partition]?.logEpoch ?? 1,
          from: range.from, to: range.to))
    }
    let needle = Array(id.utf8)
    var found: [Int32: [Int64]] = [:]
    var events = 0
    var texts = 0
    do {
      try reader.readAll(ranges) { view in
        if ContinuousClock.now > searchEnd { throw TimeIsUp() }
        guard let value = view.value, let match = Self.match(value, needle) else { return }
        // Each kind has its own bound, so that texts that merely contain the id do not displace
        // events.
        switch match {
        case .event where events < Self.mostSightings: events += 1
        case .text where texts < Self.mostTexts: texts += 1
        default: return
        }
        found[view.partition, default: []].append(view.offset)
      }
    } catch is TimeIsUp {
      wasCutOff = true
    }
    return found
  }

  enum Match: Equatable {
    /// It is a JSON object with this `id`.
    case event
    /// It is not JSON but contains the id in quotes, so it is a dead letter.
    case text
  }

  /// How a record is related to an id, or nil.
  static func match(_ value: UnsafeRawBufferPointer, _ id: [UInt8]) -> Match? {
    guard mayHold(value, id) else { return nil }
    // The kind of error does not matter, because a record that cannot be read can only be a dead
    // letter.
    guard let json = try? JSONReader.parse(Array(value)) else {
      return holds(value, [UInt8(ascii: "\"")] + id + [UInt8(ascii: "\"")]) ? .text : nil
    }
    let isNamed = json.members?.contains { member in
      guard member.name.equals("id") else { return false }
      switch member.value {
      case .string(let text): return text.bytes == id
      // It is a dead letter, because an id must be a string.
      case .number(let digits): return digits.utf8.elementsEqual(id)
      default: return false
      }
    }
    return isNamed == true ? .event : nil
  }

  private static func holds(_ value: UnsafeRawBufferPointer, _ needle: [UInt8]) -> Bool {
    guard value.count >= needle.count else { return false }
    return (0...value.count - needle.count).contains {
      value[$0] == needle[0] && value[$0..<$0 + needle.count].elementsEqual(needle)
    }
  }

  /// Whether the bytes may contain the id. If they have an escape, the id may be spelled
  /// differently.
  private static func mayHold(_ value: UnsafeRawBufferPointer, _ id: [UInt8]) -> Bool {
    guard value.count >= id.count, let first = id.first else { return false }
    var i = 0
    while i + id.count <= value.count {
      if value[i] == UInt8(ascii: "\\") { return true }
      if value[i] == first, value[i..<i + id.count].elementsEqual(id) { return true }
      i += 1
    }
    return false
  }

  private mutating func judge(
    _ reader: LogReader, _ settings: RecountSettings, _ partition: Int32, _ offsets: [Int64]
  ) throws {
    guard let first = offsets.min(), let last = offsets.max() else { return }
    let place = TopicPartition(topic: topic, partition: partition)
    let window = stored.windows[partition]?.map(\.size).max() ?? RecountSettings.defaultWindow
    let low = try reader.watermarks(place).low
    let wanted = Set(offsets)
    let from = max(low, first - window)
    var recount = PartitionRecount(partition: partition, settings: settings, countFrom: from)
    var seen: [[ExactText]: Int64] = [:]
    do {
      try reader.read(place, from: from, to: last + 1) { view in
        if ContinuousClock.now > deadline { throw TimeIsUp() }
        let record = try LogRecord(view, requeues)
        let decision = recount.feed(record)
        if wanted.contains(record.offset) { note(record, decision, &seen) }
      }
    } catch is TimeIsUp {
      wasCutOff = true
    }
  }

  private mutating func note(
    _ record: LogRecord, _ decision: Decision, _ seen: inout [[ExactText]: Int64]
  ) {
    var event: UsageEvent?
    var outcome: Outcome
    switch decision {
    case .report: return
    case .deadLetter(let reason, let detail): outcome = .deadLetter(reason: reason, detail: detail)
    case .counted(let found):
      event = found
      outcome = .counted
    case .duplicate(let found, let cause):
      event = found
      outcome = .duplicate(cause, of: seen[Self.identity(found)])
    }
    if let event {
      guard ExactText(event.id) == ExactText(id),
        source.map({ ExactText($0) == ExactText(event.source) }) ?? true
      else { return }
      seen[Self.identity(event)] = record.offset
    }
    let position = stored.positions[record.partition]
    if record.offset >= position?.nextOffset ?? 0 { outcome = .pending }
    sightings.append(
      Sighting(
        partition: record.partition, logEpoch: position?.logEpoch ?? 1, offset: record.offset,
        recordTime: record.timestamp, event: event, outcome: outcome))
  }

  private static func identity(_ event: UsageEvent) -> [ExactText] {
    [ExactText(event.subject), ExactText(event.source), ExactText(event.id)]
  }
}
