import ArgumentParser
import JSONText
import Metering
import PostgresStore

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

extension DeadLetterStore.DeadLetter {
  var state: String {
    countedAt != nil ? "counted" : requeuedAt != nil ? "requeued" : "open"
  }

  func json(
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
