import KafkaTransport
import PostgresStore
import UsageAggregation

/// The dead letters that the records of a run name in their headers, and which of the records stand
/// for them.
///
/// A header decides nothing by itself, because anybody who may write to the topic can set one. A
/// record is a requeued dead letter only if a row of `dead_letter` has that place and the record's
/// value, and was there before the record. Otherwise it is an ordinary event.
struct NamedDeadLetters {
  private var namings: [DeadLetterStore.Naming] = []

  /// - Returns: the record's `requeueIndex`.
  mutating func add(
    _ key: DeadLetterKey, _ record: RecordView, epoch: Int32, partition: Int32
  ) -> Int32 {
    // A dead letter without a value can never count.
    guard let value = record.value else { return -1 }
    namings.append(
      DeadLetterStore.Naming(
        DeadLetterStore.Name(key).place, value: Array(value), logEpoch: epoch,
        partition: partition, offset: record.offset))
    return Int32(namings.count - 1)
  }

  /// Takes the index back from records that stand for no dead letter.
  ///
  /// - Returns: by index, the dead letter that a record stands for; nil if it was settled before.
  func resolve(
    _ connection: PostgresConnection?, _ views: UnsafeMutableBufferPointer<LogRecordView>
  ) throws -> [DeadLetterKey?] {
    guard !namings.isEmpty, let connection else { return [] }
    let standing = try DeadLetterStore(connection).standing(of: namings)
    for i in views.indices where views[i].requeueIndex >= 0 {
      if standing[Int(views[i].requeueIndex)] == .unknown { views[i].requeueIndex = -1 }
    }
    return standing.map { if case .open(let letter) = $0 { DeadLetterKey(letter) } else { nil } }
  }
}

extension DeadLetterKey {
  init(_ letter: DeadLetterStore.Name) {
    self.init(
      epoch: letter.place.logEpoch, topic: letter.place.topic, partition: letter.place.partition,
      offset: letter.place.offset)
    valueHash = letter.valueHash
  }
}

extension DeadLetterStore.Name {
  init(_ key: DeadLetterKey) {
    self.init(
      DeadLetterStore.Place(
        logEpoch: key.epoch, topic: key.topic, partition: key.partition, offset: key.offset),
      valueHash: key.valueHash)
  }
}
