/// Stores what the anomaly detector needs: a state of each partition as of its offset, and alerts.
package struct DetectorStore {
  package let connection: PostgresConnection
  package let group: String
  package let topic: String

  /// The size of the pieces in which `detector_state.state` is written.
  private static let pieceBytes = 1 << 20

  package init(_ connection: PostgresConnection, group: String, topic: String) {
    self.connection = connection
    self.group = group
    self.topic = topic
  }

  /// A partition's state, whose content the store does not know.
  package struct State: Sendable {
    package var partition: Int32
    /// The offset up to which records have led to this state.
    package var nextOffset: Int64
    package var bytes: [UInt8]

    package init(partition: Int32, nextOffset: Int64, bytes: [UInt8]) {
      self.partition = partition
      self.nextOffset = nextOffset
      self.bytes = bytes
    }
  }

  /// The newest state of a partition, whatever its offset and epoch. It is nil if there is none.
  package func state(
    of partition: Int32
  ) throws(PostgresError) -> (epoch: Int32, nextOffset: Int64, bytes: [UInt8])? {
    let pieces = try connection.query(
      """
      select log_epoch, next_offset, piece from detector_state
      where consumer_group = $1 and topic = $2 and partition = $3::int order by 1 desc, 2 desc, 3
      """, [.text(group), .text(topic), .int(Int(partition))], operation: "read a detector's state")
    guard !pieces.rows.isEmpty, let epoch = pieces.integer(0, 0), let offset = pieces.integer(0, 1)
    else { return nil }
    var bytes: [UInt8] = []
    for i in pieces.rows.indices
    where pieces.integer(i, 0) == epoch && pieces.integer(i, 1) == offset {
      bytes += try connection.bytes(
        """
        select state from detector_state
        where consumer_group = $1 and topic = $2 and partition = $3::int and log_epoch = $4::int
          and next_offset = $5::bigint and piece = $6::int
        """,
        [
          .text(group), .text(topic), .int(Int(partition)), .integer(epoch), .integer(offset),
          .integer(pieces.integer(i, 2)!),
        ], operation: "read a detector's state")
    }
    return (Int32(epoch), offset, bytes)
  }

  /// Appends states within the caller's transaction. `settle` must follow in it.
  package func append(
    _ states: [State], epochs: [Int32: Int32]
  ) throws(PostgresError) {
    try connection.copy(
      into:
        "detector_state (consumer_group, topic, partition, log_epoch, next_offset, piece, state)",
      operation: "store a detector's state"
    ) { (send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
      var rows = BinaryRows()
      rows.header()
      for state in states {
        guard let epoch = epochs[state.partition] else { continue }
        var start = 0
        var piece: Int32 = 0
        repeat {
          let end = min(start + Self.pieceBytes, state.bytes.count)
          rows.row(fields: 7)
          rows.field(group)
          rows.field(topic)
          rows.int4(state.partition)
          rows.int4(epoch)
          rows.int8(state.nextOffset)
          rows.int4(piece)
          state.bytes[start..<end].withUnsafeBytes { rows.field($0) }
          try rows.send(send)
          start = end
          piece += 1
        } while start < state.bytes.count
      }
      rows.trailer()
      try rows.send(send)
    }
  }

  /// Removes what older checkpoints left for the partitions whose states were appended.
  package func settle(_ states: [State], epochs: [Int32: Int32]) -> SQLStatement {
    let stored = states.filter { epochs[$0.partition] != nil }
    return SQLStatement(
      "select detector_state_settle($1, $2, $3::int[], $4::int[], $5::bigint[])",
      [
        .text(group), .text(topic), .integers(stored.map { Int64($0.partition) }),
        .integers(stored.map { Int64(epochs[$0.partition]!) }),
        .integers(stored.map(\.nextOffset)),
      ])
  }

  /// - Parameter findings: a JSON array, see `suspicious_activity_raise`.
  package static func raise(_ findings: String) -> SQLStatement {
    SQLStatement("select suspicious_activity_raise($1::jsonb)", [.text(findings)])
  }

  /// The facts about a registered license that alerts need.
  package struct RegisteredLicense: Sendable, Equatable {
    package var customerID: String
    package var domains: [String]

    package init(customerID: String, domains: [String]) {
      self.customerID = customerID
      self.domains = domains
    }
  }

  /// The registered licenses among these, by the bytes of their ids.
  package func registered(
    of licenses: [String]
  ) throws(PostgresError) -> [[UInt8]: RegisteredLicense] {
    let rows = try connection.query(
      """
      select license_id, customer_id, coalesce(d.name, '') from license
      left join lateral unnest(domains) with ordinality d(name, place) on true
      where license_id = any ($1::text[]) order by license_id, d.place
      """, [.texts(licenses)], operation: "read bound domains")
    var found: [[UInt8]: RegisteredLicense] = [:]
    for i in rows.rows.indices {
      guard let license = rows.text(i, 0), let customer = rows.text(i, 1),
        let name = rows.text(i, 2)
      else { continue }
      found[Array(license.utf8), default: .init(customerID: customer, domains: [])].domains +=
        name.isEmpty ? [] : [name]
    }
    return found
  }
}
