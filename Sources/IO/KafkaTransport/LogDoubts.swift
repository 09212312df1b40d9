import Synchronization

/// What librdkafka saw that may mean that a partition's log is no longer the one it was: the reason
/// to compare a remembered record before anything that was fetched later is used.
package struct LogDoubts: Sendable, Equatable {
  /// Partitions that a broker did not serve: unknown, without a leader, led by another broker.
  package var partitions: Set<TopicPartition> = []
  /// A broker was connected again, or a topic was away: any partition may be concerned.
  package var concernsAll = false

  package var isEmpty: Bool { partitions.isEmpty && !concernsAll }
}

/// Collects doubts from librdkafka's own log lines.
///
/// librdkafka 2.0.2 handles these errors by itself and tells the application nothing. A topic that
/// is deleted and created again within a second would be read on at the old position. The lines
/// exist at debug level only (`debug=topic,broker`), and librdkafka writes them from the thread
/// that parses a broker's answers, before it asks for more: whatever was fetched from the new log
/// reaches the consumer after the doubt.
final class DoubtCollector: Sendable {
  private let isPending = Atomic<Bool>(false)
  private let doubts = Mutex(LogDoubts())
  /// Brokers that were connected before: the first connection says nothing.
  private let connected = Mutex<Set<String>>([])
  private static let maximumBrokers = 1_000
  private let names: TopicNames

  init(_ names: TopicNames) { self.names = names }

  /// Costs one atomic load if there is none.
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

  /// What a line means; nil: nothing.
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
