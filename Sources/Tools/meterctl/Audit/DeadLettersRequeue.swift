import Administration
import ArgumentParser
import KafkaTransport
import PostgresStore

struct DeadLettersRequeue: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "requeue", abstract: "Send dead letters to their topic again.",
    discussion: """
      Correct the cause first (a setting, an import that was not registered, a key). The original \
      value is then sent to its topic again, keyed by its subject, with a header that names the \
      dead letter. It counts once, however often it is sent, and not at all if its event was \
      counted under its id meanwhile. Dead letters that were counted are \
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
    if !chosen.letters.isEmpty {
      try confirmation.confirm(
        "\(Terminal.count(chosen.letters.count, "dead letter")) will be sent to the log again.")
      let resource = reason ?? (place.isGiven ? chosen.letters[0].place.description : "all")
      sent = try Requeue(administrator, resource: resource).run(chosen.letters)
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
    var lines = ["\(Terminal.count(sent, "dead letter")) sent again"]
    for (count, why) in [
      (chosen.alreadyCounted, "were already counted"),
      (chosen.alreadyRequeued, "were sent again before (--again sends them once more)"),
      (chosen.neverValid, "can never be valid, because the value is missing or too long"),
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
  func run(_ letters: [DeadLetterStore.Name]) throws -> Int {
    let store = DeadLetterStore(administrator.connection)
    let progress = Progress("Sending", unit: "dead letters", total: Int64(letters.count))
    var sent = 0
    defer { progress.finish(Int64(sent)) }
    for start in stride(from: 0, to: letters.count, by: DeadLetterSender.pageRows) {
      let page = try store.uncounted(
        Array(letters[start..<min(start + DeadLetterSender.pageRows, letters.count)]))
      let (taken, refusal) = try sender.send(page)
      try administrator.markRequeued(taken, resource: resource)
      sent += taken.count
      progress.update(Int64(sent))
      if let refusal {
        throw Failure(
          "\(sent) of \(letters.count) dead letters were sent again, then the broker did not take "
            + "more: \(refusal); run it again for the rest")
      }
    }
    return sent
  }
}
