import ArgumentParser
import Foundation
import KafkaTransport
import PostgresStore

/// One snapshot of the installation's state.
struct StatusSnapshot {
  struct Topic {
    var name: String
    var group: String
    /// Negative while a partition's beginning is not known.
    var next: [Int32: Int64]
    var commitAge: Double
    /// The number of partitions in the cluster; nil if it was not asked or did not answer.
    var partitions: Int?
    var lag: Int64 = 0
    /// Partitions whose log ends before what was counted. It is not the log that is remembered.
    var strange = 0
    /// Partitions that did not report their ends.
    var silent = 0
    /// Partitions that were never counted, although others of the topic are.
    var uncounted = 0

    var nextOffsets: Int64 { next.values.reduce(0) { $0 + max($1, 0) } }
  }

  private(set) var takenAt = Moment.now
  private var takenAtInstant = ContinuousClock.now
  private(set) var topics: [Topic] = []
  private(set) var rate: Double?
  private(set) var commitAge: Double?
  private(set) var pendingRows: Int64 = 0
  private(set) var deadLetters: [(reason: String, total: Int64, open: Int64)] = []
  private(set) var ledger:
    (rows: [UsageReads.LedgerRow], total: Int64, missing: Int64, inFlight: Int64) =
      ([], 0, 0, 0)
  private(set) var deliveries: WebhookStore.Backlog?
  private(set) var halts: [PartitionHaltStore.Halt] = []
  private(set) var quarantined = 0
  /// The part of Kafka that could not be asked, with the reason.
  private(set) var kafkaProblem: String?
  /// Groups and topics that fall behind.
  private var growing: [String] = []

  static let ledgerRows = 100

  /// Takes a snapshot of what PostgreSQL knows.
  static func take(_ connection: PostgresConnection) throws -> StatusSnapshot {
    var snapshot = StatusSnapshot()
    let reads = UsageReads(connection)
    let groups = try reads.groupOffsets()
    snapshot.takenAt = Moment.now
    snapshot.takenAtInstant = ContinuousClock.now
    snapshot.commitAge = groups.filter { $0.group == Connections.aggregatorGroup }
      .map(\.commitAgeSeconds).min()
    snapshot.topics = groups.map { group in
      Topic(
        name: group.topic, group: group.group, next: group.next,
        commitAge: group.commitAgeSeconds)
    }
    if snapshot.topics.isEmpty {
      snapshot.topics.append(
        Topic(
          name: Connections.usageTopic, group: Connections.aggregatorGroup, next: [:],
          commitAge: 0))
    }
    snapshot.pendingRows = try reads.pendingRows()
    snapshot.deadLetters = try DeadLetterStore(connection).counts()
    snapshot.ledger = try reads.ledgerRows(limit: ledgerRows)
    snapshot.deliveries = try WebhookStore(connection).backlog()
    snapshot.halts = try PartitionHaltStore(connection).halts()
    snapshot.quarantined = try reads.quarantined().count
    return snapshot
  }

  /// Adds what Kafka knows. Anything that it does not answer becomes a separate problem and hides
  /// nothing else.
  mutating func lookAtLog(_ log: StatusLog) {
    var ends: [String: [(low: Int64, high: Int64)?]] = [:]
    for name in Set(topics.map(\.name)).sorted() {
      do { ends[name] = try log.ends(name) } catch {
        kafkaProblem = Ending.message(error)
        // A missing topic says nothing about the other topics. If the cluster is unavailable, no
        // topic can be asked.
        if error is KafkaError { break }
      }
    }
    for i in topics.indices {
      if let found = ends[topics[i].name] { topics[i].compare(with: found) }
    }
  }

  /// Computes the rate since an earlier snapshot, and which groups fall behind.
  mutating func compare(with earlier: StatusSnapshot?) {
    guard let earlier else { return }
    let seconds = earlier.takenAtInstant.duration(to: takenAtInstant) / .seconds(1)
    guard seconds > 0 else { return }
    func sum(_ snapshot: StatusSnapshot) -> Int64 {
      // All groups read the same records, so the rate is the aggregator's.
      snapshot.topics.filter { $0.group == Connections.aggregatorGroup }
        .reduce(0) { $0 + $1.nextOffsets }
    }
    // If there are fewer than before, a new epoch has begun in between.
    rate = Double(max(0, sum(self) - sum(earlier))) / seconds
    for topic in topics where topic.partitions != nil && topic.lag > 0 {
      guard
        let before = earlier.topics.first(where: {
          ($0.name, $0.group) == (topic.name, topic.group)
        })
      else { continue }
      let done = Double(max(0, topic.nextOffsets - before.nextOffsets)) / seconds
      let lag = Terminal.grouped(topic.lag)
      if topic.next.isEmpty || topic.commitAge > 15 {
        growing.append(
          "\(topic.group) stores nothing from \(topic.name), and \(lag) records wait: is it running?"
        )
      } else if topic.lag > before.lag, before.lag > 0, Double(topic.lag) > 10 * (done + 1) {
        growing.append(
          "\(topic.group) falls behind in \(topic.name): \(lag) records wait, and their number grows"
        )
      }
    }
  }

  /// The problems as sentences, the worst first.
  var problems: [String] {
    var found = haltProblems
    for topic in topics where topic.strange > 0 {
      found.append(
        "\(topic.name): \(topic.strange) partitions end before what \(topic.group) counted: this is not the "
          + "log that was counted; see: meterctl topics new-epoch")
    }
    for topic in topics where topic.uncounted > 0 {
      found.append(
        "\(topic.name) has \(topic.uncounted) partitions that \(topic.group) never counted: the topic grew; "
          + "run: meterctl topics grow \(topic.name)")
    }
    if ledger.missing != 0 {
      found.append(
        "\(Terminal.grouped(ledger.missing)) events are missing: producers accepted them, and they are not in the log"
      )
    }
    if let kafkaProblem { found.append(kafkaProblem + "; the rest is what PostgreSQL knows") }
    for topic in topics where topic.silent > 0 {
      found.append(
        "\(topic.name): \(topic.silent) partitions do not report their ends: do they have a leader?"
      )
    }
    found += growing
    if quarantined > 0 {
      found.append("\(quarantined) licenses are quarantined, because their numbers no longer fit")
    }
    if let deliveries, deliveries.failing + deliveries.open > 0 {
      found.append(
        "\(Terminal.grouped(deliveries.failing + deliveries.open)) webhook endpoints fail; "
          + "see: meterctl endpoint list")
    }
    if let deliveries, deliveries.oldestDueSeconds >= 60 {
      found.append(
        "deliveries have been due for \(Int(deliveries.oldestDueSeconds)) s: is webhook-dispatcher running?"
      )
    }
    return found
  }

  /// Partitions with the same cause are one problem.
  private var haltProblems: [String] {
    var groups: [(key: [String], partitions: [Int32], halt: PartitionHaltStore.Halt)] = []
    for halt in halts {
      let key = [halt.group, halt.topic, halt.remedy ?? halt.reason]
      if let i = groups.firstIndex(where: { $0.key == key }) {
        groups[i].partitions.append(halt.partition)
      } else {
        groups.append((key, [halt.partition], halt))
      }
    }
    return groups.map { group in
      let list = group.partitions.prefix(8).map(String.init).joined(separator: ", ")
      let more = group.partitions.count > 8 ? " and \(group.partitions.count - 8) more" : ""
      let halt = group.halt
      var text = "\(halt.group) has halted in \(halt.topic), partition \(list)\(more)"
      text += " since \(halt.since ?? "-"): \(halt.reason)"
      if let remedy = halt.remedy, !halt.reason.contains(remedy) { text += "; run: \(remedy)" }
      return Terminal.printable(text)
    }
  }
}

extension StatusSnapshot.Topic {
  mutating func compare(with ends: [(low: Int64, high: Int64)?]) {
    partitions = ends.count
    for (i, end) in ends.enumerated() {
      guard let end else {
        silent += 1
        continue
      }
      if next[Int32(i)] == nil, !next.isEmpty { uncounted += 1 }
      // Counting begins at the low watermark if there is no row, or if the beginning is not known.
      let position = next[Int32(i)].flatMap { $0 < 0 ? nil : $0 } ?? end.low
      if end.high < position { strange += 1 }
      lag += max(0, end.high - position)
    }
  }
}
