import ArgumentParser
import KafkaTransport
import PostgresStore
import UsageAggregation

extension Topics {
  struct NewEpoch: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "new-epoch",
      abstract: "Begin a new log epoch after a topic was deleted and created again.",
      discussion: """
        Every partition starts at its low watermark. What was counted stays counted, and \
        producers' sequences are remembered, so that events which they send again count once. Use \
        this only for a topic that was deleted and created again (or a broker that lost its disk). \
        On a log that is still the same, everything would be read again. The command is therefore \
        refused if the last counted record is still there, unless --force is given. A running \
        aggregator notices the new epoch by itself. On a fresh database the command does no harm.

        Example: meterctl topics new-epoch --all --yes
        """)

    @Option(help: "The topic.")
    var topic: String?

    @Flag(help: "All topics in which a consumer group has offsets, and license.usage.v1.")
    var all = false

    @Option(
      help: ArgumentHelp(
        "The consumer group (default: every group that has offsets in the topic; for "
          + "license.usage.v1 also usage-aggregator)."))
    var group: String?

    @Option(
      name: .customLong("partition"), parsing: .upToNextOption,
      help: "Only these partitions, if a broker lost the disk of some (default: all).")
    var partitions: [Int32] = []

    @Flag(help: "Do it even if the log is the one that was counted. Its records count again.")
    var force = false

    @OptionGroup var confirmation: ConfirmationOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
      if all == (topic != nil) { throw ValidationError("give either --topic or --all") }
      if !partitions.isEmpty, all { throw ValidationError("--partition needs --topic") }
      if partitions.contains(where: { $0 < 0 }) {
        throw ValidationError("--partition must be 0 or more")
      }
    }

    func run() throws {
      let connections = Connections()
      let database = try connections.database("topics")
      let reader = try connections.logReader("topics")
      let store = EpochStore(database)
      var topics = topic.map { [$0] } ?? [Connections.usageTopic]
      if all { topics += try store.topics().filter { !topics.contains($0) } }
      let plans = try topics.compactMap { try plan($0, store, database, reader) }
      let refusals = plans.compactMap { plan in plan.refusal.map { "\(plan.topic): \($0)" } }
      if !refusals.isEmpty, !force {
        throw Failure(
          refusals.joined(separator: "\n")
            + "\nNothing was done. --force begins a new epoch anyway.")
      }
      try confirmation.confirm(
        """
        A new log epoch begins for \(plans.map(\.topic).joined(separator: ", ")): everything in its log \
        is read.\(refusals.isEmpty ? "" : " " + refusals.joined(separator: " "))
        """)
      var begun: [JSON] = []
      var lines: [String] = []
      let halts = PartitionHaltStore(database)
      for plan in plans {
        let epoch = try store.beginEpoch(topic: plan.topic, groups: plan.groups, plan.lows)
        for group in plan.groups {
          try halts.clear(group: group, topic: plan.topic, partitions: plan.lows.map(\.partition))
        }
        lines.append("\(plan.topic): log epoch \(epoch), \(plan.groups.joined(separator: ", "))")
        begun.append([
          "topic": .text(plan.topic), "log_epoch": .int(epoch),
          "partitions": .int(plan.lows.count),
          "groups": .array(plan.groups.map { .text($0) }),
        ])
      }
      output.print(["epochs": .array(begun)], text: lines.joined(separator: "\n"))
    }

    private struct Plan {
      var topic: String
      var groups: [String]
      var lows: [(partition: Int32, low: Int64)]
      var refusal: String?
    }

    /// The plan for one topic; nil if the cluster does not have it and it may be left as it is.
    private func plan(
      _ topic: String, _ store: EpochStore, _ database: PostgresConnection, _ reader: LogReader
    ) throws -> Plan? {
      guard let count = try reader.partitionCount(topic) else {
        if all, topic != Connections.usageTopic {
          Terminal.error("note: \(topic) is not on this cluster and is left alone")
          return nil
        }
        throw Connections.missing(topic)
      }
      if let strange = partitions.first(where: { $0 >= count }) {
        throw Failure("the cluster has no \(topic)[\(strange)]")
      }
      var groups = try group.map { [$0] } ?? store.groups(topic: topic)
      if group == nil, topic == Connections.usageTopic,
        !groups.contains(Connections.aggregatorGroup)
      {
        groups.append(Connections.aggregatorGroup)
      }
      guard !groups.isEmpty else {
        throw Failure("no consumer group has offsets in \(topic); use --group to name one")
      }
      let chosen = partitions.isEmpty ? Array(0..<Int32(count)) : Set(partitions).sorted()
      let log = try CountedLog(
        topic: topic, groups: groups, partitions: chosen, database, reader)
      return Plan(
        topic: topic, groups: groups, lows: chosen.map { ($0, log.lows[$0] ?? 0) },
        refusal: EpochRefusal(log.partitions)?.sentence)
    }
  }
}
