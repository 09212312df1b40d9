import ArgumentParser
import Foundation
import KafkaTransport
import Metering
import PostgresStore

extension Topics {
  struct Grow: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Double a topic's partitions without counting anything twice.",
      discussion: """
        First stop all producers of the topic (validation-service spools meanwhile), and leave the \
        consumers running. This command then checks that nothing is left to count: no lag, no \
        event in flight in the ledger, and no new record for a while. Every new partition starts \
        with its parent's dedupe window, producers' sequences and detector state, in every \
        consumer group. If the command is interrupted, run it again with the same --to.

        Consumers halt partitions that were added by other means (kafka-topics.sh --alter). The \
        same command gives them what they need.

        Example: meterctl topics grow license.usage.v1 --to 128 --yes
        """)

    @Argument(help: "The topic.")
    var topic = Connections.usageTopic

    @Option(
      help: ArgumentHelp(
        "The number of partitions afterwards, which is twice the present number (default: finish "
          + "a growth that was begun, otherwise double).", valueName: "partitions"))
    var to: Int?

    @Option(help: "The time without a new record before it begins, such as 500ms or 12s.")
    var quiet = Status.Interval(milliseconds: 12_000)

    @OptionGroup var confirmation: ConfirmationOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
      let connections = Connections()
      let database = try connections.database("topics")
      let reader = try connections.logReader("topics", ends: .ofAllRecords)
      let growth = try Growth(topic: topic, asked: to, database, reader)
      guard !growth.isDone else {
        return output.print(
          growth.document(done: false), text: "\(topic) already has \(growth.total) partitions")
      }
      let ends = try growth.drainedEnds(quietMilliseconds: quiet.milliseconds)
      try confirmation.confirm(
        """
        \(topic) grows from \(growth.parents) to \(growth.total) partitions, for \
        \(growth.groups.joined(separator: ", ")).
        """)
      try growth.carryOut(ends: ends, connections)
      output.print(
        growth.document(done: true),
        text: """
          \(topic) has \(growth.total) partitions; every new one starts with the window of its \
          parent. Start the producers again.
          """)
    }
  }
}

/// The growth of one topic, at its current step.
private struct Growth {
  let topic: String
  let groups: [String]
  let parents: Int
  let total: Int
  /// The partitions that the cluster has now.
  let existing: Int
  let isDone: Bool

  private let database: PostgresConnection
  private let reader: LogReader
  private let store: GrowthStore

  init(topic: String, asked: Int?, _ database: PostgresConnection, _ reader: LogReader) throws {
    self.topic = topic
    self.database = database
    self.reader = reader
    store = GrowthStore(database, topic: topic)
    guard let existing = try reader.partitionCount(topic) else { throw Connections.missing(topic) }
    self.existing = existing
    groups = try EpochStore(database).groups(topic: topic)
    guard !groups.isEmpty else {
      throw Failure(
        "no consumer group has counted \(topic) yet: delete it and create it with more partitions")
    }
    var stored: [String: Set<Int32>] = [:]
    for group in groups {
      stored[group] = Set(
        try OffsetStore(database, group: group, topic: topic).stored().map(\.partition))
    }
    let isWhole = stored.values.allSatisfy { rows in (0..<Int32(existing)).allSatisfy(rows.contains)
    }
    total = asked ?? (isWhole ? existing * 2 : existing)
    guard total == existing * 2 || total == existing, total % 2 == 0 else {
      throw Failure(
        "\(topic) has \(existing) partitions, and a topic can only be doubled: --to \(existing * 2)"
      )
    }
    parents = total / 2
    isDone = total == existing && isWhole
    for group in groups {
      let missing = (0..<Int32(total / 2)).filter { !(stored[group]!.contains($0)) }
      guard missing.isEmpty else {
        throw Failure(
          """
          \(group) has never counted partition \(missing[0]) of \(topic), so the new ones would have \
          no parent: start it once
          """)
      }
    }
  }

  /// The parents' ends, once nothing is left to count.
  func drainedEnds(quietMilliseconds: Int) throws -> [Int64] {
    let before = try ends(existing)
    for group in groups {
      for row in try OffsetStore(database, group: group, topic: topic).stored()
      where Int(row.partition) < parents {
        guard row.nextOffset >= 0 else {
          throw Failure(
            """
            \(group) has not begun to count partition \(row.partition) of \(topic): start it and \
            wait for lag 0 (meterctl status)
            """)
        }
        let lag = before[Int(row.partition)] - row.nextOffset
        guard lag == 0 else {
          throw Failure(
            """
            \(topic) is not drained: \(group) has \(lag) records of partition \(row.partition) left; \
            stop the producers and wait for lag 0 (meterctl status)
            """)
        }
      }
    }
    if let producer = try store.undrained(limit: 1).first {
      throw Failure(
        Terminal.printable(
          """
          \(topic) is not drained: \(producer.inFlight) events of the producer \(producer.producer) are \
          in flight for \(producer.group); wait until status shows none
          """))
    }
    Patience.during("no record to arrive in \(topic)") {
      Thread.sleep(forTimeInterval: Double(quietMilliseconds) / 1_000)
    }
    guard try ends(existing) == before else {
      throw Failure("\(topic) is not drained: records still arrive; stop its producers")
    }
    return Array(before.prefix(parents))
  }

  private func ends(_ count: Int) throws -> [Int64] {
    try (0..<Int32(count)).map {
      try reader.watermarks(TopicPartition(topic: topic, partition: $0)).high
    }
  }

  /// The rows are written first, so that a consumer that sees a new partition finds where it
  /// starts.
  func carryOut(ends before: [Int64], _ connections: Connections) throws {
    let first = try (parents..<total).map { child in
      child < existing
        ? try reader.watermarks(TopicPartition(topic: topic, partition: Int32(child))).low : 0
    }
    do {
      try store.grow(groups: groups, count: parents, firstOffsets: first, ends: before)
    } catch let error as PostgresError where error.sqlState == SQLState.notInNeededState {
      throw Failure("\(topic) is not drained: \(error.message)")
    }
    if existing < total {
      do {
        try connections.admin("topics").createPartitions(topic, total: total)
      } catch {
        try store.undo(groups: groups, count: parents)
        throw error
      }
    }
    let halts = PartitionHaltStore(database)
    for group in groups {
      try halts.clear(
        group: group, topic: topic, partitions: (Int32(parents)..<Int32(total)).map(\.self))
    }
    guard try ends(parents) == before else {
      throw Failure(
        """
        \(topic) has \(total) partitions now, but records arrived meanwhile: an event of those that is \
        sent again can count twice; stop the producers before the topic grows
        """)
    }
  }

  func document(done: Bool) -> JSON {
    [
      "topic": .text(topic), "partitions": .int(total), "parents": .int(parents),
      "groups": .array(groups.map { .text($0) }), "grown": .boolean(done),
    ]
  }
}
