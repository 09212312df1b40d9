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

  package static let pendingColumns =
    "usage_pending (log_epoch, partition, license_id, meter, hour, first_offset, last_offset, quantity, event_count, minutes, dimensions)"
  package static let deadLetterColumns =
    "dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail, payload, record_key, received_at)"

  /// The traces of groups that a flush appends to `usage_pending`; those of licenses without a limit
  /// are left out. All arrays are of the same length.
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

  /// The columns of the last message. Each is an array.
  package struct Commit: Sendable {
    package var epochs: [Int64] = []
    package var partitions: [Int64] = []
    package var expected: [Int64] = []
    package var next: [Int64] = []
    package var lastOffsets: [Int64] = []
    package var lastHashes: [Int64] = []

    package var producerPartitions: [Int64] = []
    package var producers: [String] = []
    package var producerOffsets: [Int64] = []
    package var forgotten: [Bool] = []
    package var sequences: [Int64] = []
    package var deadSequences: [Int64] = []
    package var counted: [Int64] = []
    package var duplicates: [Int64] = []
    package var repeated: [Int64] = []
    package var deadLettered: [Int64] = []

    package var reportProducers: [String] = []
    package var accepted: [Int64] = []
    package var pending: [Int64] = []
    package var dropped: [Int64] = []
    package var finals: [Bool] = []
    package var reportedAt: [String] = []

    package var requeuedEpochs: [Int64] = []
    package var requeuedTopics: [String] = []
    package var requeuedPartitions: [Int64] = []
    package var requeuedOffsets: [Int64] = []

    package init() {}
  }

  package enum Refusal: Error, Sendable {
    /// Other processes own these partitions now. Nothing was stored.
    case takenOver([Int32])
    case database(PostgresError)
  }

  /// The compare-and-set of the offsets, what meets unique keys, and COMMIT, as one message.
  ///
  /// - Parameters:
  ///   - c: nil if no offset moves.
  ///   - statements: they run behind the compare-and-set.
  package func commit(_ c: Commit?, with statements: [SQLStatement] = []) throws(Refusal) {
    do throws(PostgresError) {
      try connection.commit(
        with: (c.map { [compareAndSet($0)] + producers($0) } ?? []) + statements,
        operation: "flush")
    } catch {
      guard error.sqlState == SQLState.takenOver else { throw .database(error) }
      let digits = (error.detail ?? "").split { !$0.isNumber }
      throw .takenOver(digits.compactMap { Int32($0) })
    }
  }

  /// Writes what producers sent. It runs behind the reports of the same flush, because the counts
  /// of a producer that has reported are kept.
  private func producers(_ c: Commit) -> [SQLStatement] {
    if c.producers.isEmpty { return [] }
    return [
      SQLStatement(
        """
        select flush_producers($1, $2, $3::int[], $4::text[], $5::bigint[], $6::boolean[], $7::bigint[],
          $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
        """,
        [
          .text(group), .text(topic), .integers(c.producerPartitions), .texts(c.producers),
          .integers(c.producerOffsets), .booleans(c.forgotten), .integers(c.sequences),
          .integers(c.deadSequences), .integers(c.counted), .integers(c.duplicates),
          .integers(c.repeated), .integers(c.deadLettered),
        ])
    ]
  }

  private func compareAndSet(_ c: Commit) -> SQLStatement {
    SQLStatement(
      """
      select flush_commit($1, $2, $3, $4::int[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::int[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
        $18::text[], $19::bigint[], $20::bigint[], $21::bigint[], $22::boolean[], $23::timestamptz[],
        $24::int[], $25::text[], $26::int[], $27::bigint[])
      """,
      [
        .text(group), .text(topic), .text(owner), .integers(c.epochs), .integers(c.partitions),
        .integers(c.expected), .integers(c.next), .integers(c.lastOffsets),
        .integers(c.lastHashes), .integers([]), .texts([]), .integers([]), .integers([]),
        .integers([]), .integers([]), .integers([]), .integers([]),
        .texts(c.reportProducers), .integers(c.accepted), .integers(c.pending),
        .integers(c.dropped), .booleans(c.finals), .texts(c.reportedAt),
        .integers(c.requeuedEpochs), .texts(c.requeuedTopics), .integers(c.requeuedPartitions),
        .integers(c.requeuedOffsets),
      ])
  }
}
