package import PostgresStore
package import Recount

/// Decides which records are requeued dead letters. Anybody may set the header `dead-letter`, so a
/// row of `dead_letter` must have that place and the record's value, and must have been there before
/// the record. Otherwise the record is an ordinary event.
package struct Requeues {
  let connection: PostgresConnection
  let topic: String
  /// The epoch that is read, for each partition.
  let epochs: [Int32: Int32]

  package init(_ connection: PostgresConnection, topic: String, _ stored: StoredUsage) {
    self.connection = connection
    self.topic = topic
    epochs = stored.positions.mapValues(\.logEpoch)
  }

  /// Returns the header if the record really stands for the dead letter that it names.
  package func confirmed(_ header: [UInt8], of record: LogRecord) throws -> String? {
    // The header is epoch/topic/partition/offset. The numbers have no sign and no leading zeros.
    let fields = header.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard fields.count == 4, fields[1].elementsEqual(topic.utf8), let value = record.value,
      let epoch = Self.number(fields[0]), let partition = Self.number(fields[2]),
      let offset = Self.number(fields[3]), let current = epochs[record.partition],
      epoch <= Int64(current), partition <= Int64(Int32.max)
    else { return nil }
    // A letter of an earlier epoch or of another partition comes before the record.
    let isElsewhere = epoch < Int64(current) || partition != Int64(record.partition)
    let isKnown = try UsageReads(connection).hasDeadLetter(
      topic: topic, logEpoch: epoch, partition: partition, offset: offset, value: value,
      before: isElsewhere ? nil : record.offset)
    return isKnown ? String(decoding: header, as: UTF8.self) : nil
  }

  private static func number(_ digits: ArraySlice<UInt8>) -> Int64? {
    guard let number = Int64(String(decoding: digits, as: UTF8.self)), number >= 0,
      String(number).utf8.elementsEqual(digits)
    else { return nil }
    return number
  }
}
