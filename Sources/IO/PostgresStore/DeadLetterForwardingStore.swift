import Metering

/// The dead letters that must still be copied to their topic in Kafka.
package struct DeadLetterForwardingStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The place of a row in the table. It is valid until the end of the transaction that read it.
  package struct Row: Sendable {
    fileprivate let ctid: String
  }

  package struct Letter: Sendable {
    package let row: Row
    package let topic: String
    package let partition: String
    package let offset: String
    package let reason: String
    package let detail: String
    package let key: [UInt8]?
    package let value: [UInt8]?
  }

  /// The oldest letters that are due. The transaction locks their rows, and leaves out those that
  /// another process has locked.
  package func due(most: Int) throws(PostgresError) -> [Letter] {
    let rows = try connection.query(
      """
      select ctid::text, topic, partition, log_offset, reason, detail, encode(payload, 'hex'),
        encode(record_key, 'hex')
      from dead_letter
      where forwarded_at is null and (forward_after is null or forward_after <= now())
      order by received_at limit $1::int for update skip locked
      """, [.int(most)], operation: "read dead letters")
    return rows.rows.indices.map { i in
      Letter(
        row: Row(ctid: rows.text(i, 0)!), topic: rows.text(i, 1) ?? "",
        partition: rows.text(i, 2) ?? "", offset: rows.text(i, 3) ?? "",
        reason: rows.text(i, 4) ?? "", detail: rows.text(i, 5) ?? "",
        key: rows.text(i, 7).map { Hexadecimal.bytes($0) },
        value: rows.text(i, 6).map { Hexadecimal.bytes($0) })
    }
  }

  package func markForwarded(_ rows: [Row]) throws(PostgresError) {
    try connection.query(
      "update dead_letter set forwarded_at = now() where ctid = any ($1::tid[])",
      [.texts(rows.map(\.ctid))], operation: "mark dead letters")
  }

  /// They are due again after a pause that doubles from 5 seconds to 5 minutes.
  package func markRefused(_ rows: [Row]) throws(PostgresError) {
    try connection.query(
      """
      update dead_letter set forward_attempts = forward_attempts + 1,
        forward_after = now() + least(
          interval '5 seconds' * 2 ^ least(forward_attempts, 10), interval '5 minutes')
      where ctid = any ($1::tid[])
      """, [.texts(rows.map(\.ctid))], operation: "mark dead letters")
  }
}
