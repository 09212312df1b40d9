import ArgumentParser
import KafkaTransport
import PostgresStore

extension Topics {
  struct NewEpoch: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "new-epoch",
      abstract: "Begin a new log epoch: the topic was made anew, its offsets start over.",
      discussion: """
        Every partition starts at its low watermark. What was counted stays counted, and \
        producers' sequences are remembered, so that what they send again counts once. Only for a \
        topic that was deleted and made anew (or a broker that lost its disk): on a log that is \
        still the same everything in it would be read again. A running aggregator notices by \
        itself. Harmless on a fresh database.

        Example: meterctl topics new-epoch --all --yes
        """)

    @Option(help: "The topic.")
    var topic: String?

    @Flag(help: "license.usage.v1 and every topic that a consumer group has offsets in.")
    var all = false

    @Option(
      help: ArgumentHelp(
        "The consumer group (default: every group that has offsets in the topic; for "
          + "license.usage.v1 also usage-aggregator)."))
    var group: String?

    @OptionGroup var confirmation: ConfirmationOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
      if all == (topic != nil) { throw ValidationError("give either --topic T or --all") }
    }

    func run() throws {
      let connections = Connections()
      let database = try connections.database("topics")
      let reader = try LogReader(connections.kafka(), clientID: Connections.clientID("topics"))
      let store = EpochStore(database)
      var topics = topic.map { [$0] } ?? [Connections.usageTopic]
      if all { topics += try store.topics().filter { !topics.contains($0) } }
      try confirmation.confirm(
        "A new log epoch begins for \(topics.joined(separator: ", ")): all that its log holds is read."
      )
      var begun: [JSON] = []
      var lines: [String] = []
      for topic in topics {
        guard let partitions = try reader.partitionCount(topic) else {
          if all, topic != Connections.usageTopic {
            Terminal.error("note: \(topic) is not on this cluster: left as it is")
            continue
          }
          throw Failure("the topic \(topic) is missing; run: meterctl topics apply")
        }
        var groups = try group.map { [$0] } ?? store.groups(topic: topic)
        if group == nil, topic == Connections.usageTopic,
          !groups.contains(Connections.aggregatorGroup)
        {
          groups.append(Connections.aggregatorGroup)
        }
        guard !groups.isEmpty else {
          throw Failure("no consumer group has offsets in \(topic); --group names one")
        }
        let lows = try (0..<Int32(partitions)).map { partition in
          let place = TopicPartition(topic: topic, partition: partition)
          return (partition: partition, low: try reader.watermarks(place).low)
        }
        let epoch = try store.beginEpoch(topic: topic, groups: groups, lows)
        lines.append("\(topic): log epoch \(epoch), \(groups.joined(separator: ", "))")
        begun.append([
          "topic": .text(topic), "log_epoch": .int(epoch), "partitions": .int(partitions),
          "groups": .array(groups.map { .text($0) }),
        ])
      }
      output.print(["epochs": .array(begun)], text: lines.joined(separator: "\n"))
    }
  }
}
