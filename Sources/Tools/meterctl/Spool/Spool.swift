import ArgumentParser
import EventPublisher
import Foundation
import Logging

/// `meterctl spool …`: handles the spool of a publisher that will not return.
struct Spool: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show a publisher's spool, or send the events of an abandoned one.",
    subcommands: [Show.self, Drain.self])

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show what a spool contains. It may be in use.",
      discussion: "Example: meterctl spool show /var/lib/validation/spool --json")

    @Argument(help: "The spool's directory.", completion: .directory)
    var directory: String

    @OptionGroup var output: OutputOptions

    func run() throws {
      let spool = try SpoolInspection(directory: directory)
      func topic(_ counts: EventPublisher.Statistics.Topic) -> JSON {
        [
          "accepted": .integer(counts.accepted), "pending": .integer(counts.pending),
          "dropped": .integer(counts.dropped),
        ]
      }
      func row(_ name: String, _ counts: EventPublisher.Statistics.Topic) -> [String] {
        [name, "\(counts.accepted)", "\(counts.pending)", "\(counts.dropped)"]
      }
      output.print(
        [
          "producer": .text(spool.producer), "in_use": .boolean(spool.isInUse),
          "bytes": .int(spool.bytes), "usage": topic(spool.usage),
          "validations": topic(spool.validations),
        ],
        text:
          "\(spool.producer), \(spool.isInUse ? "in use" : "not in use"), \(spool.bytes) bytes\n"
          + Terminal.table(
            ["topic", "accepted", "pending", "dropped"],
            [row("usage", spool.usage), row("validations", spool.validations)]))
    }
  }

  struct Drain: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Send a spool's events under its own name and sequences. It must not be in use.",
      discussion: """
        Use this for the spool of a process that will not start again. Nothing counts twice, even \
        if some of it was sent before.

        Example: METER_KAFKA_BROKERS=kafka-1:9092 meterctl spool drain /var/lib/validation/spool
        """)

    @Argument(help: "The spool's directory.", completion: .directory)
    var directory: String

    @Option(help: "Give up after this many seconds. Unsent events stay in the spool.")
    var timeout = 300

    func run() throws {
      // Opening would create a spool if there is none.
      let before = try SpoolInspection(directory: directory)
      let connections = Connections()
      var configuration = EventPublisher.Configuration(
        brokers: try connections.brokers(), spoolDirectory: directory)
      configuration.kafkaConfigFile = try connections.kafkaConfigFile()
      let publisher = try EventPublisher(
        configuration: configuration,
        logger: Logger(label: "spool") { _ in SwiftLogNoOpLogHandler() })
      defer { publisher.stop() }
      let total = before.usage.pending + before.validations.pending
      let end = Date(timeIntervalSinceNow: Double(timeout))
      var said = ""
      while true {
        let now = publisher.statistics
        let left = now.usage.pending + now.validations.pending
        if left == 0 { break }
        let line = "\(left) of \(total) events left" + (now.problem.map { ": \($0)" } ?? "")
        if line != said { Terminal.error(line) }
        said = line
        guard Date() < end else {
          throw Failure("\(left) events are still in the spool; \(now.problem ?? "try again")")
        }
        Thread.sleep(forTimeInterval: 0.5)
      }
      Terminal.error("sent \(total) events of \(publisher.producer)")
    }
  }
}
