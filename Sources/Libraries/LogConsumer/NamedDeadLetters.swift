import PostgresStore
import UsageAggregation

/// The dead letters that the records of a run name in their headers, and which of the records stand
/// for them.
///
/// A header decides nothing by itself, because anybody who may write to the topic can set one. A
/// record is a requeued dead letter only if a row of `dead_letter` has that place and the record's
/// value. Otherwise it is an ordinary event.
struct NamedDeadLetters {
  private var records: [(key: DeadLetterKey, value: [UInt8])] = []

  /// - Returns: the record's `requeueIndex`.
  mutating func add(_ key: DeadLetterKey, _ value: UnsafeRawBufferPointer?) -> Int32 {
    // A dead letter without a value can never count.
    guard let value else { return -1 }
    records.append((key, Array(value)))
    return Int32(records.count - 1)
  }

  /// Takes the index back from records that stand for no dead letter.
  ///
  /// - Returns: by index, the dead letter that a record stands for; nil if it was counted before.
  func resolve(
    _ connection: PostgresConnection?, _ views: UnsafeMutableBufferPointer<LogRecordView>
  ) throws -> [DeadLetterKey?] {
    guard !records.isEmpty, let connection else { return [] }
    let standing = try DeadLetterStore(connection).standing(
      of: records.map { record in
        let key = record.key
        return (
          DeadLetterStore.Place(
            logEpoch: key.epoch, topic: key.topic, partition: key.partition, offset: key.offset),
          record.value
        )
      })
    for i in views.indices where views[i].requeueIndex >= 0 {
      if standing[Int(views[i].requeueIndex)] == .unknown { views[i].requeueIndex = -1 }
    }
    return zip(records, standing).map { $1 == .open ? $0.key : nil }
  }
}
