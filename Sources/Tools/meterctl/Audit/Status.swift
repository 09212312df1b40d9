import ArgumentParser
import Foundation
import KafkaTransport
import PostgresStore

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show problems, and the state of everything: lag, rate, ledger, deliveries.",
    discussion: """
      Problems come first, in words, and make the exit status 1: halted partitions, missing \
      events, growing lag, failing endpoints, or a Kafka that does not answer. What PostgreSQL \
      knows is shown in any case.

      The command takes a second, in which it measures the rate. With --watch the screen refreshes \
      until Ctrl-C. If stdout is not a terminal, a snapshot is printed at each interval (with \
      --json, one object per line). NO_COLOR turns colors off.

      Example: meterctl status --watch --interval 5s
      """)

  @Flag(name: [.customShort("w"), .long], help: "Refresh until Ctrl-C.")
  var watch = false

  @Option(help: "The time between two refreshes, such as 500ms or 5s.")
  var interval = Interval(milliseconds: 2_000)

  @OptionGroup var output: OutputOptions

  /// For example `250ms`, `2s` or `1m`.
  struct Interval: ExpressibleByArgument {
    var milliseconds: Int

    init(milliseconds: Int) { self.milliseconds = milliseconds }

    init?(argument: String) {
      for (suffix, scale) in [("ms", 1), ("s", 1_000), ("m", 60_000)]
      where argument.hasSuffix(suffix) {
        guard let count = Int(argument.dropLast(suffix.count)), count > 0, count <= 3_600_000
        else { return nil }
        milliseconds = count * scale
        return
      }
      return nil
    }

    var defaultValueDescription: String {
      milliseconds % 1_000 == 0 ? "\(milliseconds / 1_000)s" : "\(milliseconds)ms"
    }
  }

  func run() throws {
    let connections = Connections()
    let connection = try connections.database("status", statementTimeoutMilliseconds: 30_000)
    let log = StatusLog(connections)
    func look(after earlier: StatusSnapshot?) throws -> StatusSnapshot {
      var snapshot = try StatusSnapshot.take(connection)
      snapshot.lookAtLog(log)
      snapshot.compare(with: earlier)
      return snapshot
    }
    var snapshot = try look(after: nil)
    if !watch, snapshot.kafkaProblem == nil {
      // Rate and lag need an earlier snapshot to be compared with.
      Thread.sleep(forTimeInterval: 1)
      snapshot = try look(after: snapshot)
    }
    show(snapshot)
    while watch {
      Thread.sleep(forTimeInterval: Double(interval.milliseconds) / 1_000)
      snapshot = try look(after: snapshot)
      show(snapshot)
    }
    if !snapshot.problems.isEmpty { throw Ending.difference }
  }

  private func show(_ snapshot: StatusSnapshot) {
    var screen = Screen.current()
    if output.json {
      print(watch ? snapshot.json.compact : snapshot.json.pretty)
    } else if watch, screen.canRefresh {
      print(screen.refresh(snapshot.lines(screen)), terminator: "")
    } else {
      // Output that is printed once may scroll, and a line may wrap without losing anything.
      let columns = screen.columns
      screen.columns = .max
      screen.rows = .max
      let lines = snapshot.lines(screen, tableColumns: columns)
      print(lines.map(screen.render).joined(separator: "\n"))
      if watch { print() }
    }
    // Output into a pipe must be flushed explicitly.
    fflush(nil)
  }
}

/// Asks the cluster for `status`. It never takes longer than the budget, and asks again for each
/// snapshot.
final class StatusLog {
  private let connections: Connections
  private var reader: LogReader?

  init(_ connections: Connections) { self.connections = connections }

  /// How long all partitions together may take to report their ends.
  private static let budgetMilliseconds = 10_000

  /// The ends of a topic's partitions; nil for one that did not answer.
  ///
  /// - Throws: an error if no broker answers, or if the topic is missing.
  func ends(_ topic: String) throws -> [(low: Int64, high: Int64)?] {
    let reader = try self.reader ?? connections.logReader("status", ends: .ofAllRecords)
    self.reader = reader
    return try Patience.during("the ends of \(topic)") {
      guard let count = try reader.partitionCount(topic, timeoutMilliseconds: 5_000) else {
        throw Connections.missing(topic)
      }
      let end = ContinuousClock.now + .milliseconds(Self.budgetMilliseconds)
      return try (0..<Int32(count)).map { partition in
        let left = ContinuousClock.now.duration(to: end) / .milliseconds(1)
        guard left > 100 else { return nil }
        do throws(KafkaError) {
          return try reader.watermarks(
            TopicPartition(topic: topic, partition: partition),
            timeoutMilliseconds: Int32(min(left, 2_000)))
        } catch {
          // A partition without a leader is the only one that is left out.
          if error.isRetriable || error.isTimeout { return nil }
          throw error
        }
      }
    }
  }
}
