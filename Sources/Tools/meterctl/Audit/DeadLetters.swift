import Administration
import ArgumentParser
import JSONText
import KafkaTransport
import Metering
import PostgresStore
import Recount

struct DeadLetters: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dead-letters",
    abstract: "List, show and resend events that could not be counted.",
    discussion: """
      Example: meterctl dead-letters list --reason key_mismatch
      """,
    subcommands: [DeadLettersList.self, DeadLettersShow.self, DeadLettersRequeue.self])
}

struct DeadLettersList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List dead letters, newest first.",
    discussion: "Example: meterctl dead-letters list --reason too_old --limit 200 --json")

  @Option(help: "Only this reason (docs/event-validation.md names them).")
  var reason: String?

  @Option(help: "The largest number to list.")
  var limit = 50

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard limit > 0 else { throw ValidationError("--limit must be 1 or more") }
  }

  func run() throws {
    let store = DeadLetterStore(try Connections().database("dead-letters"))
    let counts = try store.counts().filter { reason == nil || $0.reason == reason }
    let found = try store.list(.init(reason: reason), limit: limit)
    let total = counts.reduce(0) { $0 + $1.total }
    output.print(
      ["total": .integer(total), "dead_letters": .array(found.map { $0.json() })],
      text: text(found, total))
  }

  private func text(_ found: [DeadLetterStore.DeadLetter], _ total: Int64) -> String {
    if found.isEmpty { return "no dead letters" + (reason.map { " with the reason \($0)" } ?? "") }
    let table = Terminal.table(
      ["received", "topic", "epoch", "partition", "offset", "reason", "state", "detail"],
      found.map {
        [
          $0.receivedAt, $0.place.topic, "\($0.place.logEpoch)", "\($0.place.partition)",
          "\($0.place.offset)", $0.reason, $0.state, Terminal.printable($0.detail),
        ]
      }, right: [2, 3, 4])
    return table + "\n\(Terminal.grouped(found.count)) of \(Terminal.grouped(total))"
  }
}

/// Selects one dead letter.
struct DeadLetterPlaceOptions: ParsableArguments {
  @Option(help: "The topic of the dead letter.")
  var topic: String?

  @Option(help: "Its partition.")
  var partition: Int32?

  @Option(help: "Its offset.")
  var offset: Int64?

  @Option(help: "The epoch of the log, if several have that offset.")
  var epoch: Int32?

  var isGiven: Bool { topic != nil || partition != nil || offset != nil || epoch != nil }
  var isComplete: Bool { topic != nil && partition != nil && offset != nil }

  var filter: DeadLetterStore.Filter {
    .init(topic: topic, partition: partition, offset: offset, logEpoch: epoch)
  }
}

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

struct DeadLettersRequeue: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "requeue", abstract: "Send dead letters to their topic again.",
    discussion: """
      Correct the cause first (a setting, an import that was not registered, a key). The original \
      value is then sent to its topic again, keyed by its subject, with a header that names the \
      dead letter. It counts once, however often it is sent. Dead letters that were counted are \
      left alone, and so are those that were sent again before, unless --again is given. If \
      several dead letters have the same value, only the first one is sent.

      Example: meterctl dead-letters requeue --reason key_mismatch --yes
      """)

  @Flag(help: "Send all of them.")
  var all = false

  @Option(help: "Send those with this reason.")
  var reason: String?

  @OptionGroup var place: DeadLetterPlaceOptions

  @Flag(help: "Also send those that were sent again before and have not been counted yet.")
  var again = false

  @OptionGroup var confirmation: ConfirmationOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    let chosen = (all ? 1 : 0) + (reason != nil ? 1 : 0) + (place.isGiven ? 1 : 0)
    guard chosen == 1 else {
      throw ValidationError("give --all, --reason, or --topic with --partition and --offset")
    }
    guard !place.isGiven || place.isComplete else {
      throw ValidationError("give --topic, --partition and --offset to name one dead letter")
    }
  }

  func run() throws {
    let administrator = try Connections().administrator("dead-letters")
    let store = DeadLetterStore(administrator.connection)
    var filter = place.filter
    filter.reason = reason
    // A dead letter that is named explicitly is sent even if it was sent before.
    let chosen = try store.requeueable(filter, again: again || place.isGiven)
    var sent = 0
    if !chosen.places.isEmpty {
      try confirmation.confirm(
        "\(Terminal.grouped(chosen.places.count)) dead letters are sent to their topics again.")
      let resource = reason ?? (place.isGiven ? chosen.places[0].description : "all")
      sent = try Requeue(administrator, resource: resource).run(chosen.places)
    }
    output.print(json(chosen, sent), text: text(chosen, sent))
  }

  private func json(_ chosen: DeadLetterStore.Requeueable, _ sent: Int) -> JSON {
    [
      "requeued": .int(sent), "already_counted": .int(chosen.alreadyCounted),
      "already_requeued": .int(chosen.alreadyRequeued), "never_valid": .int(chosen.neverValid),
      "same_value": .int(chosen.sameValue),
    ]
  }

  private func text(_ chosen: DeadLetterStore.Requeueable, _ sent: Int) -> String {
    var lines = ["\(Terminal.grouped(sent)) dead letters sent again"]
    for (count, why) in [
      (chosen.alreadyCounted, "have counted already"),
      (chosen.alreadyRequeued, "were sent again before (--again sends them once more)"),
      (chosen.neverValid, "can never be valid: no value, or too long a one"),
      (chosen.sameValue, "have the same value as an earlier one, which stands for them"),
    ] where count > 0 {
      lines.append("\(Terminal.grouped(count)) left out: they \(why)")
    }
    return lines.joined(separator: "\n")
  }
}

/// Sends dead letters again and notes which were accepted.
struct Requeue {
  private let administrator: Administrator
  private let sender: DeadLetterSender
  /// The selection, for the audit log.
  private let resource: String

  init(_ administrator: Administrator, resource: String) throws {
    self.administrator = administrator
    self.resource = resource
    sender = try DeadLetterSender(
      Connections().kafka(), clientID: Connections.clientID("dead-letters"))
  }

  /// - Returns: the number of letters that were sent and acknowledged.
  /// - Throws: the broker's refusal, after the accepted letters were marked.
  func run(_ places: [DeadLetterStore.Place]) throws -> Int {
    let store = DeadLetterStore(administrator.connection)
    let progress = Progress("Sending", unit: "dead letters", total: Int64(places.count))
    var sent = 0
    defer { progress.finish(Int64(sent)) }
    for start in stride(from: 0, to: places.count, by: DeadLetterSender.pageRows) {
      let page = try store.uncounted(
        Array(places[start..<min(start + DeadLetterSender.pageRows, places.count)]))
      let (taken, refusal) = try sender.send(page)
      try administrator.markRequeued(taken, resource: resource)
      sent += taken.count
      progress.update(Int64(sent))
      if let refusal {
        throw Failure(
          "\(sent) of \(places.count) dead letters were sent again, then the broker did not take "
            + "more: \(refusal); run it again for the rest")
      }
    }
    return sent
  }
}

/// Bytes in readable form: text if they are UTF-8, otherwise hexadecimal.
struct Readable {
  let isText: Bool
  let text: String
  /// The same on one line. Line ends of a value between other lines could forge some.
  var line: String { Terminal.printable(text) }

  init(_ bytes: [UInt8]) {
    if let decoded = String(validating: bytes, as: UTF8.self) {
      isText = true
      // A value on several lines of its own may contain line ends.
      text = decoded.split(separator: "\n", omittingEmptySubsequences: false)
        .map { Terminal.printable(String($0)) }.joined(separator: "\n")
    } else {
      isText = false
      text = Hexadecimal.text(bytes)
    }
  }

  static func json(_ bytes: [UInt8]) -> JSON {
    String(validating: bytes, as: UTF8.self).map { ["text": .text($0)] }
      ?? ["hex": .text(Readable(bytes).text)]
  }
}

extension DeadLetterStore.DeadLetter {
  fileprivate var state: String {
    countedAt != nil ? "counted" : requeuedAt != nil ? "requeued" : "open"
  }

  fileprivate func json(
    withPayload: Bool = false, headers: [(name: String, value: [UInt8])]? = nil
  ) -> JSON {
    var members: [(String, JSON)] = [
      ("topic", .text(place.topic)), ("partition", .int(place.partition)),
      ("log_offset", .integer(place.offset)), ("log_epoch", .int(place.logEpoch)),
      ("consumer_group", .text(group)), ("reason", .text(reason)), ("detail", .text(detail)),
      ("payload_bytes", .optional(payloadBytes)), ("received_at", .text(receivedAt)),
      ("forwarded_at", .optional(forwardedAt)), ("requeued_at", .optional(requeuedAt)),
      ("counted_at", .optional(countedAt)),
    ]
    if withPayload {
      members += [
        ("payload", payload.map(Readable.json) ?? .null), ("key", key.map(Readable.json) ?? .null),
        (
          "headers",
          headers.map {
            .array($0.map { ["name": .text($0.name), "value": Readable.json($0.value)] })
          }
            ?? .null
        ),
      ]
    }
    return .object(members)
  }
}
