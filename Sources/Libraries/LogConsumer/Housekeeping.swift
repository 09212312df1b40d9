import Foundation
import KafkaTransport
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// What must happen once in a while, whoever does it: forwarding dead letters, judging the ledger, making partitions ahead, retention.
/// Every process tries; row locks and advisory locks let one of them do each piece.
final class Housekeeping: Sendable {
  /// Any number that nobody else uses.
  private static let retentionLock: Int64 = 0x4D45_5445_5232

  /// An hour of usage that begins behind a checkpoint is provable for as long as the log reaches
  /// back to that checkpoint.
  private static let checkpointMilliseconds = 600_000

  private let settings: ConsumerSettings
  private let health: HealthState
  private let logger: Logger
  private let stop: StopSignal

  init(settings: ConsumerSettings, health: HealthState, logger: Logger, stop: StopSignal) {
    self.settings = settings
    self.health = health
    self.logger = logger
    self.stop = stop
  }

  func start() -> WorkerThread { WorkerThread("housekeeping") { [self] in run() } }

  private func run() {
    var connection: PostgresConnection?
    let forwarder = DeadLetterForwarder(settings, logger)
    var reader: LogReader?
    var lastRetention = Int.min / 2
    var lastCheckpoints = Int.min / 2
    var repeated = RepeatedCause()
    while !stop.wait(milliseconds: 1_000) {
      do {
        if connection == nil {
          let opened = try PostgresConnection(
            url: settings.databaseURL, application: "\(settings.group) housekeeping")
          // Until there is a schema that fits, there is nothing to keep.
          guard try Schema.state(opened).problem == nil else { continue }
          connection = opened
        }
        guard let connection else { continue }
        while try forwarder.forward(connection), !stop.isRaised {}
        if reader == nil {
          // A report is judged behind all that was in the log when it came: records of an open transaction too, which nobody may
          // read yet. With read_committed the end would lie before them, and they would be told as lost.
          var kafka = settings.kafka
          kafka.set("isolation.level", "read_uncommitted")
          reader = try LogReader(kafka, clientID: "\(settings.group)-ledger")
        }
        try judgeLedger(connection, reader!)
        if Monotonic.milliseconds - lastCheckpoints > Self.checkpointMilliseconds {
          // The first one of a process is taken whatever the age of those before it.
          try takeCheckpoints(connection, isFirst: lastCheckpoints < 0)
          lastCheckpoints = Monotonic.milliseconds
        }
        if Monotonic.milliseconds - lastRetention > 3_600_000 {
          try retain(connection)
          try retainRecords(connection, reader!)
          lastRetention = Monotonic.milliseconds
        }
        health.degraded(settings.healthName("housekeeping"), problem: nil)
      } catch {
        connection = nil
        health.degraded(settings.healthName("housekeeping"), problem: "\(error)", logs: false)
        if let times = repeated.note("\(error)") {
          logger.warning(
            "housekeeping failed and is tried again",
            metadata: ["error": "\(error)", "times": .stringConvertible(times)])
        }
      }
    }
  }

  // MARK: The ledger

  /// A report is judged when every partition has passed the log end that was found after the report had arrived.
  private func judgeLedger(_ connection: PostgresConnection, _ reader: LogReader) throws {
    let unseen = try connection.query(
      """
      select count(*) from producer_report where consumer_group = $1 and topic = $2 and log_ends is null
      """, [.text(settings.group), .text(settings.topic)], operation: "read the ledger")
    if unseen.integer(0, 0) ?? 0 > 0 {
      // Taken before the log ends are asked for, so that a report which comes meanwhile gets later ones.
      let taken = try connection.query(
        """
        select producer, reported_at::text, accepted from producer_report
        where consumer_group = $1 and topic = $2 and log_ends is null limit 1000
        """, [.text(settings.group), .text(settings.topic)], operation: "read the ledger")
      let count = try reader.partitionCount(settings.topic) ?? 0
      var ends: [Int64] = []
      for partition in 0..<Int32(count) {
        ends.append(
          try reader.watermarks(TopicPartition(topic: settings.topic, partition: partition)).high)
      }
      for i in taken.rows.indices {
        try connection.query(
          """
          update producer_report set log_ends = $4::bigint[]
          where consumer_group = $1 and topic = $2 and producer = $3 and accepted = $5::bigint
            and reported_at = $6::timestamptz
          """,
          [
            .text(settings.group), .text(settings.topic), .text(taken.text(i, 0)!),
            .integers(ends), .integer(taken.integer(i, 2)!), .text(taken.text(i, 1)!),
          ], operation: "write the ledger")
      }
    }
    try connection.query(
      """
      update producer_report r set judged_at = now()
      where consumer_group = $1 and topic = $2 and judged_at is null and log_ends is not null
        and not exists (
          select from unnest(r.log_ends) with ordinality e(log_end, place)
          left join consumer_offset o on o.consumer_group = r.consumer_group and o.topic = r.topic
            and o.partition = e.place - 1
          where e.log_end > 0 and coalesce(o.next_offset, 0) < e.log_end)
      """, [.text(settings.group), .text(settings.topic)], operation: "judge the ledger")
  }

  // MARK: Audit checkpoints

  /// Only the group that writes dead letters down is ever recounted.
  private var checkpoints: Bool { settings.rules.keepsDeadLetters }

  private func takeCheckpoints(_ connection: PostgresConnection, isFirst: Bool) throws {
    guard checkpoints else { return }
    try AuditCheckpointStore(connection, group: settings.group, topic: settings.topic)
      .take(leastAgeSeconds: isFirst ? 0 : Self.checkpointMilliseconds / 1_000)
  }

  // MARK: Retention

  private func retain(_ connection: PostgresConnection) throws {
    let lock = try connection.query(
      "select pg_try_advisory_lock($1)", [.integer(Self.retentionLock)], operation: "retention")
    guard lock.boolean(0, 0) else { return }
    try PartitionStore(connection).makeMissing(monthsAhead: 3) { stop.isRaised }
    // In small pieces, so that no lock is held for long.
    while !stop.isRaised {
      let rows = try connection.query("select usage_retain(5000)", operation: "retention")
      if rows.integer(0, 0) ?? 0 == 0 { break }
    }
    try connection.query("select limit_states_retain()", operation: "retention")
    try RetentionStore(connection).retainAlerts { stop.isRaised }
    try connection.query(
      "select pg_advisory_unlock($1)", [.integer(Self.retentionLock)], operation: "retention")
  }

  /// What can be removed once the log no longer has it, and reports.
  private func retainRecords(_ connection: PostgresConnection, _ reader: LogReader) throws {
    let retention = RetentionStore(connection)
    try retention.retainReports(group: settings.group, topic: settings.topic) { stop.isRaised }
    guard checkpoints else { return }
    let count = try reader.partitionCount(settings.topic) ?? 0
    let places = (0..<Int32(count)).map { TopicPartition(topic: settings.topic, partition: $0) }
    let ends = reader.watermarks(of: places, timeoutMilliseconds: 10_000)
    // A partition that cannot be asked now keeps what it has.
    let lows = places.compactMap { place in
      (try? ends[place]?.get()).map { (partition: place.partition, low: $0.low) }
    }
    try AuditCheckpointStore(connection, group: settings.group, topic: settings.topic).retain(lows)
    try retention.retainDeadLetters(group: settings.group, topic: settings.topic, lows: lows) {
      stop.isRaised
    }
  }
}
