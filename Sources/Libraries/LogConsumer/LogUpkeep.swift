import Foundation
import KafkaTransport
import Logging
import Metering
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Does periodic work in whichever process comes first: it forwards dead letters, judges the
/// ledger, creates partitions ahead of time and removes old rows. Every process tries. Row locks
/// and advisory locks make sure that one of them does each piece.
final class LogUpkeep: Sendable {
  /// An hour of usage that begins after a checkpoint can be recounted for as long as the log
  /// reaches back to that checkpoint.
  private static let checkpointMilliseconds = 600_000
  /// How often rows that are too old are removed.
  private static let retentionMilliseconds = 3_600_000

  private let settings: ConsumerSettings
  private let health: HealthState
  private let logger: Logger
  private let stop: StopSignal
  private let pulse: Heartbeat

  init(settings: ConsumerSettings, health: HealthState, logger: Logger, stop: StopSignal) {
    self.settings = settings
    self.health = health
    self.logger = logger
    self.stop = stop
    pulse = health.heartbeat(settings.healthName("housekeeping"))
  }

  /// Checked before each piece of work that may take long.
  private var isStopping: Bool {
    pulse.beat()
    return stop.isRaised
  }

  func start() -> WorkerThread { WorkerThread("housekeeping") { [self] in run() } }

  private func run() {
    var kept = KeptConnection(
      url: settings.databaseURL, application: "\(settings.group) housekeeping")
    let forwarder = DeadLetterForwarder(settings, logger)
    var reader: LogReader?
    var lastRetention = Int.min / 2
    var lastCheckpoints = Int.min / 2
    var repeated = RepeatedCause()
    defer { pulse.rest() }
    while !stop.wait(milliseconds: 1_000) {
      pulse.beat()
      do {
        let connection = try kept.open()
        while try forwarder.forward(connection), !isStopping {}
        if reader == nil {
          // A report is judged after everything that was in the log when it arrived. That includes
          // the records of open transactions, which would otherwise be reported as lost.
          reader = try LogReader(
            settings.kafka, clientID: "\(settings.group)-ledger", ends: .ofAllRecords)
        }
        try judgeLedger(connection, reader!)
        pulse.beat()
        if Monotonic.milliseconds - lastCheckpoints > Self.checkpointMilliseconds {
          // A process takes its first checkpoint whatever the age of earlier ones.
          try takeCheckpoints(connection, isFirst: lastCheckpoints < 0)
          lastCheckpoints = Monotonic.milliseconds
        }
        if Monotonic.milliseconds - lastRetention > Self.retentionMilliseconds {
          try retain(connection)
          try retainRecords(connection, reader!)
          // An open reader kept a month's partition from being attached. It is tried again soon.
          let isSoon = try PartitionStore(connection).isKeepingMonthsOut()
          lastRetention =
            Monotonic.milliseconds - (isSoon ? Self.retentionMilliseconds - 60_000 : 0)
        }
        health.degraded(settings.healthName("housekeeping"), problem: nil)
      } catch let error as PostgresError where error.isOfSchema {
        // The consumer reports this problem. Without a schema that fits, there is nothing to do.
      } catch {
        kept.close()
        health.degraded(settings.healthName("housekeeping"), problem: "\(error)", logs: false)
        if let times = repeated.note("\(error)") {
          logger.warning(
            "the upkeep failed and is tried again",
            metadata: ["error": "\(error)", "times": .stringConvertible(times)])
        }
      }
    }
  }

  // MARK: The ledger

  /// A report is judged when every partition has passed the log end that was found after the report
  /// had arrived.
  private func judgeLedger(_ connection: PostgresConnection, _ reader: LogReader) throws {
    let store = ProducerReportStore(connection, group: settings.group, topic: settings.topic)
    // The reports are read before the log ends, so that a report which arrives meanwhile gets later
    // log ends.
    let reports = try store.newReports(limit: 1_000)
    if !reports.isEmpty {
      let count = try reader.partitionCount(settings.topic) ?? 0
      let ends = try (0..<Int32(count)).map {
        try reader.watermarks(TopicPartition(topic: settings.topic, partition: $0)).high
      }
      for report in reports { try store.setLogEnds(ends, of: report) }
    }
    try store.judge()
  }

  // MARK: Audit checkpoints

  /// Only the group that stores dead letters is ever recounted.
  private var checkpoints: Bool { settings.rules.keepsDeadLetters }

  private func takeCheckpoints(_ connection: PostgresConnection, isFirst: Bool) throws {
    guard checkpoints else { return }
    try AuditCheckpointStore(connection, group: settings.group, topic: settings.topic)
      .take(leastAgeSeconds: isFirst ? 0 : Self.checkpointMilliseconds / 1_000)
  }

  // MARK: Retention

  private func retain(_ connection: PostgresConnection) throws {
    guard try connection.tryLockForSession(.retention, operation: "retention") else { return }
    try PartitionStore(connection).makeMissing(monthsAhead: 3) { isStopping }
    let retention = RetentionStore(connection)
    try retention.retainUsage { isStopping }
    try retention.retainLimitStates()
    try retention.retainAlerts { isStopping }
    try connection.unlock(.retention, operation: "retention")
  }

  /// Removes reports, and rows that are no longer needed once the log has lost their records.
  private func retainRecords(_ connection: PostgresConnection, _ reader: LogReader) throws {
    let retention = RetentionStore(connection)
    try retention.retainReports(group: settings.group, topic: settings.topic) { isStopping }
    guard checkpoints else { return }
    let count = try reader.partitionCount(settings.topic) ?? 0
    let places = (0..<Int32(count)).map { TopicPartition(topic: settings.topic, partition: $0) }
    let ends = reader.watermarks(of: places, timeoutMilliseconds: 10_000)
    // A partition that does not answer now keeps its rows.
    let lows = places.compactMap { place in
      (try? ends[place]?.get()).map { (partition: place.partition, low: $0.low) }
    }
    try AuditCheckpointStore(connection, group: settings.group, topic: settings.topic).retain(lows)
    try retention.retainDeadLetters(group: settings.group, topic: settings.topic, lows: lows) {
      isStopping
    }
  }
}
