import ArgumentParser
import KafkaTransport
import PostgresStore

struct DeadLettersShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Show a dead letter with its value, key and headers.",
    discussion: """
      The value and the key come from PostgreSQL. The headers come from the log, if it still has \
      the record and METER_KAFKA_BROKERS is set.

      Example: meterctl dead-letters show --topic license.usage.v1 --partition 3 --offset 4711
      """)

  @OptionGroup var place: DeadLetterPlaceOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard place.isComplete else {
      throw ValidationError("give --topic, --partition and --offset to name one dead letter")
    }
  }

  func run() throws {
    let connection = try Connections().database("dead-letters")
    let found = try DeadLetterStore(connection).list(place.filter, limit: 20, withPayload: true)
    guard let newest = found.first else {
      throw Failure(
        "there is no dead letter at that place; see: meterctl dead-letters list")
    }
    let epochs = Set(found.map(\.place.logEpoch)).sorted()
    if epochs.count > 1 {
      throw Failure(
        "that offset is a dead letter in the epochs \(epochs.map(String.init).joined(separator: ", ")): add --epoch"
      )
    }
    let headers = headers(of: newest, connection)
    output.print(newest.json(withPayload: true, headers: headers), text: text(newest, headers))
  }

  /// What the log still knows about the record; nil if it no longer does.
  private func headers(
    of deadLetter: DeadLetterStore.DeadLetter, _ connection: PostgresConnection
  ) -> [(name: String, value: [UInt8])]? {
    let place = deadLetter.place
    var found: [(name: String, value: [UInt8])]?
    // The headers are optional. Without a broker, or without the record, the row is still shown,
    // and the output says that the headers are unknown.
    try? {
      let stored = try OffsetStore(connection, group: deadLetter.group, topic: place.topic)
        .stored([place.partition])
      guard stored.first?.logEpoch == place.logEpoch else { return }
      let reader = try LogReader(
        Connections().kafka(), clientID: Connections.clientID("dead-letters"),
        stallTimeoutMilliseconds: 5_000)
      let partition = TopicPartition(topic: place.topic, partition: place.partition)
      let (low, high) = try reader.watermarks(partition, timeoutMilliseconds: 5_000)
      guard low <= place.offset, place.offset < high else { return }
      try reader.read(partition, from: place.offset, to: place.offset + 1) { record in
        guard record.offset == place.offset else { return }
        found = record.headers
      }
    }()
    return found
  }

  private func text(
    _ it: DeadLetterStore.DeadLetter, _ headers: [(name: String, value: [UInt8])]?
  ) -> String {
    var lines = [
      "topic      \(it.place.topic)",
      "partition  \(it.place.partition)",
      "offset     \(it.place.offset)",
      "epoch      \(it.place.logEpoch)",
      "group      \(it.group)",
      "reason     \(it.reason): \(Terminal.printable(it.detail))",
      "received   \(it.receivedAt)",
      "state      \(it.state)",
      "key        \(it.key.map { Readable($0).line } ?? "none")",
    ]
    if let headers {
      lines += headers.map {
        "header     \(Terminal.printable($0.name)): \(Readable($0.value).line)"
      }
      if headers.isEmpty { lines.append("headers    none") }
    } else {
      lines.append("headers    unknown: the log no longer has the record, or cannot be read")
    }
    guard let payload = it.payload else {
      return (lines + ["value      none (a tombstone)"]).joined(separator: "\n")
    }
    let value = Readable(payload)
    lines.append("value      \(payload.count) bytes\(value.isText ? "" : ", in hexadecimal"):")
    // The lines are indented, so that none of them looks like one of ours.
    lines += value.text.split(separator: "\n", omittingEmptySubsequences: false).map { "  " + $0 }
    return lines.joined(separator: "\n")
  }
}
