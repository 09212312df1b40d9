import AnomalyDetection
import JSONText
import KafkaTransport
import LogConsumer
import Logging
import Metering
import PostgresStore
import ServiceRuntime

/// Watches the totals of meters and of the largest customers, in slots of ten minutes. It reads the
/// rows that the aggregator has written. Only the process that holds the lock does it.
///
/// A slot is judged one minute after its end, once the aggregator has passed the ends that the log
/// had then. Otherwise an aggregator that is behind would look like customers who stopped. What was
/// learnt, the alerts, and the note that the slot is judged commit together, so that a process that
/// dies loses nothing and repeats nothing.
final class UsageWatcher: Sendable {
  /// The number of customers that are watched: those with the most events.
  static let customers = 1_000
  /// The aggregator's group, whose rows are judged.
  static let group = ConsumerGroup.aggregator
  private static let pauseMilliseconds = 5_000
  /// Slots that are older than this (in minutes) are left out, because nobody can act on them any
  /// more.
  private static let oldest: Int64 = 1440
  /// The time in minutes between the end of a slot and the question for the log's ends.
  private static let grace: Int64 = 1

  private let settings: ConsumerSettings
  private let health: HealthState
  private let metrics: DetectorMetrics
  private let logger: Logger
  private let stop: StopSignal
  private let pulse: Heartbeat

  init(
    settings: ConsumerSettings, health: HealthState, metrics: DetectorMetrics, logger: Logger,
    stop: StopSignal
  ) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.stop = stop
    pulse = health.heartbeat("usage watch")
  }

  func start() -> WorkerThread { WorkerThread("usage watch") { [self] in run() } }

  private func run() {
    var kept = KeptConnection(
      url: settings.databaseURL, application: "anomaly-detector usage watch")
    var reader: LogReader?
    var repeated = RepeatedCause()
    defer { pulse.rest() }
    while !stop.wait(milliseconds: Self.pauseMilliseconds) {
      pulse.beat()
      do {
        let connection = try kept.open()
        if reader == nil {
          // This includes the records of open transactions, because they come before what is
          // judged.
          reader = try LogReader(
            settings.kafka, clientID: "\(settings.group)-usage-watch", ends: .ofAllRecords)
        }
        guard let reader else { continue }
        while try step(connection, { try self.ends(reader) }), !stop.isRaised { pulse.beat() }
        health.degraded("usage watch", problem: nil)
      } catch let error as PostgresError where error.isOfSchema {
        // The consumer reports this problem. Without a schema that fits, there is nothing to watch.
      } catch {
        kept.close()
        health.degraded("usage watch", problem: "\(error)", logs: false)
        if let times = repeated.note("\(error)") {
          logger.warning(
            "the totals could not be judged, so this is tried again",
            metadata: ["error": "\(error)", "times": .stringConvertible(times)])
        }
      }
    }
  }

  private func ends(_ reader: LogReader) throws -> [Int64] {
    let count = try reader.partitionCount(settings.topic) ?? 0
    return try (0..<Int32(count)).map {
      pulse.beat()
      return try reader.watermarks(TopicPartition(topic: settings.topic, partition: $0)).high
    }
  }

  /// Judges the next slot if that is possible now.
  ///
  /// - Returns: true if it did. There may be another slot to judge.
  private func step(
    _ connection: PostgresConnection, _ ends: () throws -> [Int64]
  ) throws -> Bool {
    let store = UsageWatchStore(connection)
    let outcome = try connection.transaction {
      try Self.judgeNext(store, topic: settings.topic, customers: Self.customers)
    }
    switch outcome {
    case .idle: return false
    case .needsEnds(let minute, let epoch):
      // Kafka may take its time for each partition, and the server ends a transaction that is idle
      // for 10 s.
      let logEnds = try ends()
      try store.cover(
        until: minute, logEnds: logEnds, ofEpoch: epoch, group: Self.group, topic: settings.topic)
      return false
    case .judged(let anomalies):
      for anomaly in anomalies { metrics.found(anomaly) }
      return true
    }
  }

  enum Outcome: Equatable {
    /// Another process judges, or the next slot cannot be judged yet.
    case idle
    /// What comes before this minute can be judged once the aggregator has passed the ends that the
    /// log of this epoch has now.
    case needsEnds(before: Int64, epoch: Int64)
    case judged([UsageAnomaly])
  }

  /// Judges the next slot within the caller's transaction.
  static func judgeNext(
    _ store: UsageWatchStore, topic: String, customers: Int
  ) throws -> Outcome {
    guard try store.lock() else { return .idle }
    var progress = try store.progress(group: group, topic: topic)
    let rowMinutes = UsageWatch.rowMinutes
    let oldest = (progress.now - Self.oldest) / rowMinutes * rowMinutes
    if progress.nextSlot < oldest {
      progress.nextSlot = oldest
      try store.advance(to: oldest)
    }
    let slotEnd = progress.nextSlot + rowMinutes
    guard slotEnd + grace <= progress.now else { return .idle }
    guard let covered = progress.coveredUntil, covered >= slotEnd else {
      return .needsEnds(
        before: (progress.now - grace) / rowMinutes * rowMinutes, epoch: progress.logEpoch)
    }
    guard progress.isReached else { return .idle }
    if !progress.isChosenToday { try store.choose(customers: customers) }
    let told = try judge(store, slot: progress.nextSlot)
    try store.advance(to: slotEnd)
    return .judged(told)
  }

  /// Judges the totals of a slot, and raises alerts for what it finds.
  static func judge(_ store: UsageWatchStore, slot: Int64) throws -> [UsageAnomaly] {
    var all = try store.series(at: slot)
    var beginnings: [UsageAnomalyBudget.Beginning] = []
    var told: [UsageAnomaly] = []
    var json = JSONWriter(reserving: 256)
    json.beginArray()
    for index in all.indices {
      // A state of another version is not read. The series starts over.
      var watch = UsageWatch(state: all[index].state) ?? UsageWatch()
      if let anomaly = watch.observe(all[index].calls, at: slot) {
        if !anomaly.hasEnded {
          beginnings.append(
            .init(index: index, isOfCustomer: !all[index].customer.isEmpty, anomaly: anomaly))
        } else if all[index].isTold {
          told.append(anomaly)
          write(anomaly, of: all[index], affected: nil, &json)
        }
      }
      all[index].state = watch.state()
      if !watch.isOpen { all[index].isTold = false }
    }
    for (beginning, affected) in UsageAnomalyBudget.told(beginnings) {
      told.append(beginning.anomaly)
      all[beginning.index].isTold = true
      write(beginning.anomaly, of: all[beginning.index], affected: affected, &json)
    }
    json.endArray()
    if !told.isEmpty { try store.raise(String(decoding: json.bytes, as: UTF8.self)) }
    try store.store(all)
    return told
  }

  /// - Parameter affected: customers whose series changed in the same direction; nil when an
  ///   anomaly ends.
  private static func write(
    _ anomaly: UsageAnomaly, of series: UsageWatchStore.Series, affected: Int?,
    _ json: inout JSONWriter
  ) {
    let phase = anomaly.hasEnded ? "ended" : "began"
    json.beginObject()
    json.member("occurred_at", anomaly.until * 60_000)
    json.member(
      "dedupe_key",
      "usage.anomaly/\(phase)/\(anomaly.since)/\(series.meter)/\(series.customer)")
    json.name("data")
    json.beginObject()
    json.member("direction", anomaly.direction.name)
    json.member("status", phase)
    json.member("meter", series.meter)
    json.name("customer_id")
    if series.customer.isEmpty { json.null() } else { json.text(series.customer) }
    json.member("since", UTCTime.text(anomaly.since * 60_000))
    json.name("ended_at")
    if anomaly.hasEnded { json.text(UTCTime.text(anomaly.until * 60_000)) } else { json.null() }
    json.name("observed_per_minute")
    json.raw(rounded(anomaly.observed))
    json.name("expected_per_minute")
    json.beginObject()
    json.name("low")
    json.raw(rounded(anomaly.expectedLow))
    json.name("high")
    json.raw(rounded(anomaly.expectedHigh))
    json.endObject()
    if let affected { json.member("customers_affected", Int64(affected)) }
    json.member("window_seconds", UsageWatch.rowMinutes * 60)
    json.member("detector", "usage/\(UsageWatch.version)")
    json.endObject()
    json.endObject()
  }

  private static func rounded(_ value: Double) -> String {
    value.isFinite ? "\((value * 10).rounded() / 10)" : "null"
  }
}
