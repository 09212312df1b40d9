import KafkaTransport
import PostgresStore
import UsageAggregation

/// What a topic's log is to each group that has counted it.
struct LogLook {
  struct Place {
    var group: String
    var partition: Int32
    var nextOffset: Int64
    var remembered: (offset: Int64, hash: Int64)?
    var low: Int64
    var high: Int64
    var continuity: LogContinuity
  }

  private(set) var lows: [Int32: Int64] = [:]
  private(set) var places: [Place] = []

  /// Reads the last counted record of every place whose offset the log still has.
  init(
    topic: String, groups: [String], partitions: [Int32], _ database: PostgresConnection,
    _ reader: LogReader
  ) throws {
    var highs: [Int32: Int64] = [:]
    for partition in partitions {
      let ends = try reader.watermarks(TopicPartition(topic: topic, partition: partition))
      lows[partition] = ends.low
      highs[partition] = ends.high
    }
    for group in groups {
      let stored = try OffsetStore(database, group: group, topic: topic).stored(partitions)
      var found: [Int32: LogContinuity.Found] = [:]
      var ranges: [LogReader.Range] = []
      for row in stored {
        guard let offset = row.lastRecordOffset, row.lastRecordHash != nil,
          let low = lows[row.partition], let high = highs[row.partition], offset >= low,
          offset < high
        else { continue }
        found[row.partition] = .nothing
        ranges.append(
          .init(
            TopicPartition(topic: topic, partition: row.partition), from: offset, to: offset + 1))
      }
      try reader.readAll(ranges) { record in
        let view = LogRecordView(
          offset: record.offset, timestamp: record.timestamp, value: record.value, key: record.key)
        found[record.partition] = .record(hash: KeyedHash.fingerprint(of: view))
      }
      for row in stored {
        guard let low = lows[row.partition], let high = highs[row.partition] else { continue }
        var remembered: (offset: Int64, hash: Int64)?
        if let offset = row.lastRecordOffset, let hash = row.lastRecordHash {
          remembered = (offset, hash)
        }
        places.append(
          Place(
            group: group, partition: row.partition, nextOffset: row.nextOffset,
            remembered: remembered, low: low, high: high,
            continuity: LogContinuity.judge(
              nextOffset: row.nextOffset, remembered: remembered, low: low, high: high,
              found: found[row.partition] ?? .unknown)))
      }
    }
  }

  /// Why a new epoch would count records twice, or nil where it would not.
  var refusal: String? {
    func list(_ places: [Place]) -> String {
      Set(places.map(\.partition)).sorted().prefix(10).map(String.init).joined(separator: ", ")
    }
    let same = places.filter {
      if case .cut = $0.continuity { true } else { $0.continuity == .same }
    }
    let others = places.filter { $0.continuity.remedy == "meterctl topics new-epoch" }
    if let first = same.first {
      let place =
        "partition \(first.partition) still has the last record that \(first.group) counted "
        + "(offset \(first.remembered?.offset ?? 0))"
      if !others.isEmpty {
        return
          "\(place): only some partitions are another log; name them: --partition \(list(others))"
      }
      if let cut = same.first(where: { $0.continuity != .same }) {
        return "\(place), and its log lost its end at \(cut.high); run: meterctl topics accept-gap"
      }
      return "\(place): this log is the one that was counted, and all of it would count again"
    }
    guard others.isEmpty else { return nil }
    if let trimmed = places.first(where: { $0.continuity.remedy != nil }) {
      return
        "partition \(trimmed.partition) lost its beginning, up to \(trimmed.low); "
        + "run: meterctl topics accept-gap"
    }
    guard let unproven = places.first(where: { $0.continuity == .unproven }) else { return nil }
    return
      "nothing shows that partition \(unproven.partition) is another log than the one that was "
      + "counted up to \(unproven.nextOffset)"
  }
}
