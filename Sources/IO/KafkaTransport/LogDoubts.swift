import Synchronization

/// Signs from librdkafka that a partition's log may have been replaced. Then a remembered record
/// must be compared before anything that was fetched later is used.
package struct LogDoubts: Sendable, Equatable {
  /// Partitions that a broker did not serve, because they are unknown, without a leader, or led by
  /// another broker.
  package var partitions: Set<TopicPartition> = []
  /// Whether any partition may be concerned, because a broker was connected again or a topic had
  /// disappeared.
  package var concernsAll = false

  package var isEmpty: Bool { partitions.isEmpty && !concernsAll }
}

/// Collects doubts from librdkafka's own log lines.
///
/// librdkafka 2.0.2 handles these errors by itself and tells the application nothing. A topic that
/// is deleted and created again within a second would be read on at the old position. The lines
/// exist only at debug level (`debug=topic,broker`). librdkafka writes them from the thread that
/// parses a broker's answers, before it asks for more. So records that were fetched from the new
/// log reach the consumer after the doubt.
final class DoubtCollector: Sendable {
  private let isPending = Atomic<Bool>(false)
  private let doubts = Mutex(LogDoubts())
  /// The brokers that were connected before. A first connection means nothing.
  private let connected = Mutex<Set<String>>([])
  private static let maximumBrokers = 1_000
  private let names: TopicNames

  init(_ names: TopicNames) { self.names = names }

  /// Takes the doubts. It costs one atomic load if there are none.
  func take() -> LogDoubts {
    guard isPending.load(ordering: .acquiring) else { return LogDoubts() }
    return doubts.withLock { doubts in
      isPending.store(false, ordering: .relaxed)
      defer { doubts = LogDoubts() }
      return doubts
    }
  }

  /// Takes one line of librdkafka's log.
  func read(facility: String, line: String) {
    let line = Self.withoutThread(line)
    guard let doubt = Self.doubt(facility: facility, line: line) else { return }
    if facility == "STATE", line.hasSuffix("-> UP") {
      let broker = String(line.prefix { $0 != " " })
      let isFirst = connected.withLock { connected in
        if connected.count >= Self.maximumBrokers { connected.removeAll() }
        return connected.insert(broker).inserted
      }
      if isFirst { return }
    }
    doubts.withLock { doubts in
      for partition in doubt.partitions {
        doubts.partitions.insert(
          TopicPartition(topic: names.here(partition.topic), partition: partition.partition))
      }
      doubts.concernsAll = doubts.concernsAll || doubt.concernsAll
      isPending.store(true, ordering: .releasing)
    }
  }

  /// The line without `[thrd:NAME]: `, which librdkafka puts first unless `log.thread.name` is off.
  private static func withoutThread(_ line: String) -> String {
    guard line.hasPrefix("[thrd:"), let end = line.firstRange(of: "]: ") else { return line }
    return String(line[end.upperBound...])
  }

  /// The doubt that a line expresses, or nil.
  static func doubt(facility: String, line: String) -> LogDoubts? {
    switch facility {
    case "BROKERUA":
      // "license.usage.v1 [3]: broker unavailable: fetch: Broker: Not leader for partition"
      let parts = line.split(separator: " ", maxSplits: 2)
      guard parts.count > 1, let number = Int32(parts[1].filter(\.isNumber)) else {
        return LogDoubts(concernsAll: true)
      }
      return LogDoubts(
        partitions: [TopicPartition(topic: String(parts[0]), partition: number)])
    case "STATE":
      if line.hasPrefix("Topic ") {
        // "Topic license.usage.v1 changed state exists -> notexists"
        return line.contains("unknown -> exists") ? nil : LogDoubts(concernsAll: true)
      }
      // "127.0.0.1:9092/1: Broker changed state APIVERSION_QUERY -> UP"
      guard line.hasSuffix("-> UP"), !line.contains("/bootstrap"),
        !line.hasPrefix("GroupCoordinator")
      else { return nil }
      return LogDoubts(concernsAll: true)
    default: return nil
    }
  }
}
