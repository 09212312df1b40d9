import Foundation
import KafkaTransport
import Logging
import PostgresStore
import ServiceRuntime

/// What must happen once in a while, whoever does it: forwarding dead letters, judging the ledger, making partitions ahead, retention.
/// Every process tries; row locks and advisory locks let one of them do each piece.
final class Housekeeping: Sendable {
  /// Any number that nobody else uses.
  private static let retentionLock: Int64 = 0x4D45_5445_5232
  private static let forwardRows = 500

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
    var producer: KafkaProducer?
    var reader: LogReader?
    var lastRetention = Int.min / 2
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
        if producer == nil {
          producer = try KafkaProducer(
            settings.kafka, clientID: "\(settings.group)-dead-letters")
        }
        while try forward(connection, producer!) == Self.forwardRows, !stop.isRaised {}
        if reader == nil {
          reader = try LogReader(settings.kafka, clientID: "\(settings.group)-ledger")
        }
        try judgeLedger(connection, reader!)
        if Monotonic.milliseconds - lastRetention > 3_600_000 {
          try retain(connection)
          lastRetention = Monotonic.milliseconds
        }
        health.degraded(settings.healthName("housekeeping"), problem: nil)
      } catch {
        connection = nil
        health.degraded(settings.healthName("housekeeping"), problem: "\(error)", logs: false)
        if let times = repeated.note("\(error)") {
          logger.warning(
            "housekeeping failed and is tried again",
            metadata: ["error": "\(error)", "times": "\(times)"])
        }
      }
    }
  }

  // MARK: Dead letters

  /// Copies dead letters to their topic, at least once: a row is marked when Kafka has acknowledged its copy.
  private func forward(_ connection: PostgresConnection, _ producer: KafkaProducer) throws -> Int {
    try connection.transaction {
      let rows = try connection.query(
        """
        select ctid::text, topic, partition, log_offset, reason, detail, encode(payload, 'hex'), encode(record_key, 'hex')
        from dead_letter where forwarded_at is null order by received_at limit $1::int for update skip locked
        """, [.int(Self.forwardRows)], operation: "read dead letters")
      guard !rows.isEmpty else { return 0 }
      for i in rows.rows.indices {
        let headers: [(String, [UInt8])] = [
          ("reason", Array(rows.text(i, 4)!.utf8)), ("detail", Array(rows.text(i, 5)!.utf8)),
          ("topic", Array(rows.text(i, 1)!.utf8)), ("partition", Array(rows.text(i, 2)!.utf8)),
          ("offset", Array(rows.text(i, 3)!.utf8)),
        ]
        try produce(
          producer, key: rows.text(i, 7).map(Self.bytes), value: rows.text(i, 6).map(Self.bytes),
          headers: headers)
      }
      try producer.flush(timeoutMilliseconds: 5_000)
      try connection.query(
        "update dead_letter set forwarded_at = now() where ctid = any ($1::tid[])",
        [.texts(rows.rows.indices.map { rows.text($0, 0)! })], operation: "mark dead letters")
      return rows.rows.count
    }
  }

  private func produce(
    _ producer: KafkaProducer, key: [UInt8]?, value: [UInt8]?, headers: [(String, [UInt8])]
  ) throws {
    func withBytes(
      _ bytes: [UInt8]?, _ body: (UnsafeRawBufferPointer?) throws -> Bool
    ) rethrows -> Bool {
      guard let bytes else { return try body(nil) }
      return try bytes.withUnsafeBytes { try body($0) }
    }
    while true {
      let isQueued = try withBytes(key) { key in
        try withBytes(value) { value in
          try producer.produce(
            topic: settings.deadLetterTopic, key: key, value: value, headers: headers)
        }
      }
      if isQueued { return }
      _ = producer.poll(timeoutMilliseconds: 100)
    }
  }

  private static func bytes(_ hex: String) -> [UInt8] {
    let digits = Array(hex.utf8)
    func value(_ d: UInt8) -> UInt8 { d < 0x3A ? d - 0x30 : d - 0x57 }
    return stride(from: 0, to: digits.count - 1, by: 2).map {
      value(digits[$0]) << 4 | value(digits[$0 + 1])
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
    try connection.query(
      "select pg_advisory_unlock($1)", [.integer(Self.retentionLock)], operation: "retention")
  }
}
