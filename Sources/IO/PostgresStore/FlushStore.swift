package import Metering

/// The writes of one flush.
package struct FlushStore {
  package let connection: PostgresConnection
  package let group: String
  package let topic: String
  package let owner: String

  package init(
    _ connection: PostgresConnection, group: String, topic: String, owner: String
  ) {
    self.connection = connection
    self.group = group
    self.topic = topic
    self.owner = owner
  }

  /// The table and the columns to which a flush appends usage, as COPY names them.
  ///
  /// - Parameter byLicense: whether the rows get an index by license. A large flush should do
  ///   without, because it makes each row twice as dear.
  package static func pendingColumns(byLicense: Bool) -> String {
    let table = byLicense ? "usage_pending_recent" : "usage_pending"
    return
      "\(table) (log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count, minutes, dimensions)"
  }
  package static let deadLetterColumns =
    "dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail, payload, record_key, received_at)"

  /// Stores the traces of groups that a flush appends to `usage_pending`. Traces of licenses without
  /// a limit are left out. All arrays have the same length.
  package static func traces(
    epochs: [Int64], partitions: [Int64], licenses: [Identifier], meters: [Identifier],
    offsets: [Int64], traceparents: [String]
  ) -> SQLStatement {
    SQLStatement(
      """
      insert into usage_trace (log_epoch, partition, license_id, meter, log_offset, traceparent)
      select * from unnest($1::int[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::text[])
        u(log_epoch, partition, license_id, meter, log_offset, traceparent)
      where exists (
        select from license_limit l where l.license_id = u.license_id and l.meter = u.meter)
      """,
      [
        .integers(epochs), .integers(partitions), .identifiers(licenses), .identifiers(meters),
        .integers(offsets), .texts(traceparents),
      ])
  }

  /// Everything that moves with the offsets of a flush.
  package struct Commit: Sendable {
    package var offsets: [Offset] = []
    package var reports: [Report] = []
    package var requeued: [Requeued] = []
    /// The numbers of events are those since the last flush. The store adds them up.
    package var producers: [OffsetStore.StoredProducer] = []

    package init() {}
  }

  /// A dead letter that the flush settles, because it has judged a record that requeued it.
  package struct Requeued: Sendable {
    package var letter: DeadLetterStore.Name
    /// Whether the flush counts the record. If not, it is a duplicate.
    package var isCounted: Bool

    package init(_ letter: DeadLetterStore.Name, isCounted: Bool) {
      self.letter = letter
      self.isCounted = isCounted
    }
  }

  /// The compare-and-set of one partition.
  package struct Offset: Sendable {
    package var epoch: Int32
    package var partition: Int32
    /// What the store must still hold.
    package var expected: Int64
    package var next: Int64
    /// It is −1 if no record is remembered.
    package var lastRecord: Int64
    package var lastRecordHash: Int64

    package init(
      epoch: Int32, partition: Int32, expected: Int64, next: Int64, lastRecord: Int64,
      lastRecordHash: Int64
    ) {
      self.epoch = epoch
      self.partition = partition
      self.expected = expected
      self.next = next
      self.lastRecord = lastRecord
      self.lastRecordHash = lastRecordHash
    }
  }

  /// A producer's own account of what it accepted.
  package struct Report: Sendable {
    package var producer: String
    package var accepted: Int64
    package var pending: Int64
    package var dropped: Int64
    package var isFinal: Bool
    /// `2026-11-27T18:40:00Z`.
    package var reportedAt: String

    package init(
      producer: String, accepted: Int64, pending: Int64, dropped: Int64, isFinal: Bool,
      reportedAt: String
    ) {
      self.producer = producer
      self.accepted = accepted
      self.pending = pending
      self.dropped = dropped
      self.isFinal = isFinal
      self.reportedAt = reportedAt
    }
  }

  package enum Refusal: Error, Sendable {
    /// Other processes own these partitions now. Nothing was stored.
    case takenOver([Int32])
    case database(PostgresError)
  }

  /// Sends the compare-and-set of the offsets, all writes that meet unique keys, and COMMIT as one
  /// message.
  ///
  /// - Parameters:
  ///   - commit: nil if no offset moves.
  ///   - statements: further writes, which run after the compare-and-set.
  package func commit(
    _ commit: Commit?, with statements: [SQLStatement] = []
  ) throws(Refusal) {
    do throws(PostgresError) {
      try connection.commit(
        with: (commit.map { self.statements($0) } ?? []) + statements, operation: "flush")
    } catch {
      guard error.sqlState == SQLState.takenOver else { throw .database(error) }
      let digits = (error.detail ?? "").split { !$0.isNumber }
      throw .takenOver(digits.compactMap { Int32($0) })
    }
  }

  /// The compare-and-set comes first, so that its refusal is the error that is reported. Producers
  /// come after the reports, because a producer that has reported keeps its counts when its
  /// partition forgets it.
  private func statements(_ commit: Commit) -> [SQLStatement] {
    // Without a compare-and-set, nothing shows that the partitions still belong to this process.
    guard let epoch = commit.offsets.map(\.epoch).max() else { return [] }
    var statements = [compareAndSet(commit.offsets)]
    if !commit.reports.isEmpty { statements.append(store(commit.reports, epoch: epoch)) }
    if !commit.requeued.isEmpty { statements.append(settle(commit.requeued)) }
    if !commit.producers.isEmpty { statements.append(store(commit.producers)) }
    return statements
  }

  private func compareAndSet(_ offsets: [Offset]) -> SQLStatement {
    SQLStatement(
      """
      select flush_offsets($1, $2, $3, $4::int[], $5::int[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[])
      """,
      [
        .text(group), .text(topic), .text(owner), .integers(offsets.map { Int64($0.epoch) }),
        .integers(offsets.map { Int64($0.partition) }), .integers(offsets.map(\.expected)),
        .integers(offsets.map(\.next)), .integers(offsets.map(\.lastRecord)),
        .integers(offsets.map(\.lastRecordHash)),
      ])
  }

  private func store(_ reports: [Report], epoch: Int32) -> SQLStatement {
    SQLStatement(
      """
      select flush_reports($1, $2, $3::int, $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::boolean[], $9::timestamptz[])
      """,
      [
        .text(group), .text(topic), .integer(Int64(epoch)), .texts(reports.map(\.producer)),
        .integers(reports.map(\.accepted)), .integers(reports.map(\.pending)),
        .integers(reports.map(\.dropped)), .booleans(reports.map(\.isFinal)),
        .texts(reports.map(\.reportedAt)),
      ])
  }

  private func settle(_ requeued: [Requeued]) -> SQLStatement {
    SQLStatement(
      "select flush_settled($1::int[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::boolean[])",
      DeadLetterStore.arrays(requeued.map(\.letter)) + [.booleans(requeued.map(\.isCounted))])
  }

  private func store(_ producers: [OffsetStore.StoredProducer]) -> SQLStatement {
    SQLStatement(
      """
      select flush_producers($1, $2, $3::int[], $4::text[], $5::bigint[], $6::boolean[],
        $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
      """,
      [
        .text(group), .text(topic), .integers(producers.map { Int64($0.partition) }),
        .texts(producers.map(\.producer)), .integers(producers.map(\.lastOffset)),
        .booleans(producers.map(\.isForgotten)), .integers(producers.map(\.sequence)),
        .integers(producers.map(\.deadSequence)), .integers(producers.map(\.counted)),
        .integers(producers.map(\.duplicates)), .integers(producers.map(\.repeated)),
        .integers(producers.map(\.deadLettered)),
      ])
  }
}
