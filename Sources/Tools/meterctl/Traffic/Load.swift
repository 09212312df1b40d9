import ArgumentParser
import SystemRandom

struct Load: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Send generated usage events, for trials, measurements and tests.",
    discussion: """
      Events are for the licenses lic_00000000 and following, with the first ones most often. The \
      run is one producer: it numbers its events from 1, and reports every 10 s and at the end how \
      many it accepted, so that producer_ledger shows whether any were lost. Duplicates are the \
      same records sent again, up to 4,000 events later. Invalid events are garbage of every kind \
      that docs/event-validation.md refuses. Both are sent in addition to --events. While Kafka is \
      unavailable, the command waits. Ctrl-C or SIGTERM stops it: it delivers what is queued, \
      sends the last report and exits with status 0. A second signal ends it immediately. It needs \
      only METER_KAFKA_BROKERS.

      The summary has: accepted (valid events), sent (all records except reports), duplicates, \
      invalid, seconds, rate (records per second).

      Example: meterctl load --events 100000 --licenses 1000 --rate 5000 --duplicates 2 --invalid 1
      """)

  @Option(help: "The number of valid events.")
  var events: Int64

  @Option(help: "The number of licenses, up to 10,000,000.")
  var licenses = 1_000

  @Option(help: "Valid events per second. 0 means as fast as possible.")
  var rate = 0.0

  @Option(help: ArgumentHelp("Events to send twice, in percent.", valueName: "pct"))
  var duplicates = 0.0

  @Option(
    help: ArgumentHelp("Invalid events to add, in percent of the valid ones.", valueName: "pct"))
  var invalid = 0.0

  @Option(help: "The same seed makes the same events, except their times (default: random).")
  var seed: UInt64?

  @Option(
    help: ArgumentHelp(
      "The producer's name (default: a new one). A name that was used before does not "
        + "continue its sequence, so its events count as duplicates.", valueName: "name"))
  var producer: String?

  @Option(help: "Spread the events' times over this many minutes up to now, oldest first.")
  var minutes = 1

  @Option(
    help: "How unevenly licenses are used: 0 evenly, 1 like word frequencies (Zipf), at most 2.")
  var skew = 0.8

  @Flag(
    name: .customLong("report"), inversion: .prefixedNo,
    help: "Report what was accepted. Without reports the ledger cannot show missing events.")
  var report = true

  @Flag(inversion: .prefixedNo, help: "Send a final report at the end.")
  var final = true

  @OptionGroup var output: OutputOptions

  func validate() throws {
    func check(_ condition: Bool, _ text: String) throws {
      if !condition { throw ValidationError(text) }
    }
    try check(
      (1...1_000_000_000_000).contains(events), "--events must be from 1 to 1,000,000,000,000")
    try check((1...10_000_000).contains(licenses), "--licenses must be from 1 to 10,000,000")
    try check((0...100_000_000).contains(rate), "--rate must be from 0 to 100,000,000")
    try check((0...100).contains(duplicates), "--duplicates must be from 0 to 100")
    try check((0...100).contains(invalid), "--invalid must be from 0 to 100")
    try check(
      (1...50_000).contains(minutes),
      "--minutes must be from 1 to 50,000, because events older than 35 days are refused")
    try check((0...2).contains(skew), "--skew must be from 0 to 2")
    if let producer {
      let isPlain = producer.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
          || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
      }
      try check(
        isPlain && (1...256).contains(producer.utf8.count),
        "--producer must have 1 to 256 letters, digits, - . _")
    }
  }

  func run() throws {
    Interrupt.install()
    let progress = Progress("Sending", unit: "events", total: events)
    let sender = try EventSender(
      Connections().kafka(), topic: Connections.usageTopic, command: "load", progress: progress)
    let name = producer ?? "load-" + SystemRandom.base36()
    var run = LoadRun(self, producer: name, progress: progress)
    if let sender { try run.send(sender) }
    progress.finish(run.accepted)
    output.print(run.summary, text: run.text)
    if let sender, sender.failedEvents > 0 {
      throw Failure(
        """
        the brokers refused \(sender.failedEvents) events permanently\
        \(sender.firstError.map { ", the first with: \($0)" } ?? "")
        """)
    }
  }
}
