import ArgumentParser
import Foundation
import KafkaTransport
import Metering
import PostgresStore

extension Topics {
  struct AcceptGap: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "accept-gap",
      abstract: "Give up offsets that the log has lost, and record who did so and why.",
      discussion: """
        Use this for a partition that stopped because the log no longer has its next offset. If \
        retention removed it, counting continues at the low watermark. If the log was cut, it \
        continues at the log's end. The gap is recorded in log_gap. A running aggregator continues \
        by itself.

        Example: meterctl topics accept-gap --topic license.usage.v1 --partition 7 \
        --group usage-aggregator --reason "disk of broker 2 lost" --yes
        """)

    @Option(help: "The topic.")
    var topic = Connections.usageTopic

    @Option(help: "The partition.")
    var partition: Int32

    @Option(help: "The consumer group.")
    var group = Connections.aggregatorGroup

    @Option(
      help: ArgumentHelp(
        "The offset to continue at (default: the low watermark, or the log's end if it was cut).",
        valueName: "offset"))
    var to: Int64?

    @Option(help: "The reason. It is stored with the gap.")
    var reason: String

    @OptionGroup var confirmation: ConfirmationOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
      if partition < 0 { throw ValidationError("--partition must be 0 or more") }
      let length = reason.utf8.count
      if reason.isBlank || length > 1_000 || reason.utf8.contains(0) {
        throw ValidationError("--reason must have 1 to 1,000 bytes and not be blank")
      }
    }

    func run() throws {
      let connections = Connections()
      let database = try connections.database("topics")
      let store = OffsetStore(database, group: group, topic: topic)
      guard let stored = try store.stored([partition]).first else {
        throw Failure(
          "\(group) has no offset in \(topic)[\(partition)]: there is nothing to give up")
      }
      let reader = try connections.logReader("topics")
      guard let count = try reader.partitionCount(topic), partition < count else {
        throw Failure("the cluster has no \(topic)[\(partition)]")
      }
      let log = try reader.watermarks(TopicPartition(topic: topic, partition: partition))
      let next: Int64
      switch Self.target(stored: stored.nextOffset, low: log.low, high: log.high, asked: to) {
      case .success(let value): next = value
      case .failure(let refusal): throw refusal
      }
      let first = min(stored.nextOffset, next)
      let last = max(stored.nextOffset, next) - 1
      try confirmation.confirm(
        "\(topic)[\(partition)]: offsets \(first) to \(last) are given up, \(group) continues at \(next)."
      )
      try store.acceptGap(partition: partition, to: next, reason: reason, by: Self.person())
      try PartitionHaltStore(database).clear(group: group, topic: topic, partitions: [partition])
      output.print(
        [
          "topic": .text(topic), "partition": .int(partition), "group": .text(group),
          "first_offset": .integer(first), "last_offset": .integer(last),
          "next_offset": .integer(next),
        ],
        text: "\(topic)[\(partition)]: gave up \(first) to \(last); \(group) continues at \(next)")
    }

    /// The offset at which to go on. It never goes back over records that were counted already, because they
    /// would count twice.
    static func target(
      stored: Int64, low: Int64, high: Int64, asked: Int64?
    ) -> Result<Int64, Failure> {
      let place = "the log holds \(low) to \(high), the next offset is \(stored)"
      guard stored >= 0 else {
        return .failure(
          Failure(
            "this partition was never counted. It begins at its low watermark by itself, so there "
              + "is nothing to give up"))
      }
      if let asked {
        guard (low...high).contains(asked) else {
          return .failure(Failure("--to \(asked) is outside the log: \(place)"))
        }
        guard asked > stored || stored > high else {
          return .failure(
            Failure("--to \(asked) would give up nothing, or count records twice: \(place)"))
        }
        return .success(asked)
      }
      if stored < low { return .success(low) }
      if stored > high { return .success(high) }
      return .failure(
        Failure(
          """
          nothing is missing: \(place). If the topic was created again, run meterctl topics new-epoch; to \
          skip records anyway, use --to OFFSET
          """))
    }

    private static func person() -> String {
      let name = NSUserName()
      return name.isEmpty ? "meterctl" : "\(name) (meterctl)"
    }
  }
}
