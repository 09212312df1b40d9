import Metering

/// The POST requests that were carried out, with their answers.
package struct IdempotencyStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A request that was carried out before.
  package struct Earlier: Sendable {
    package let fingerprint: [UInt8]
    /// The answer that was given to `finish`.
    package let answer: [UInt8]
  }

  /// Takes a key for this transaction, or returns the outcome of the earlier request with this key.
  /// It waits while another transaction holds the key.
  package func begin(key: [UInt8], fingerprint: [UInt8]) throws(PostgresError) -> Earlier? {
    let taken = try connection.query(
      """
      insert into api_idempotency (key_hash, fingerprint) values ($1, $2)
      on conflict (key_hash) do update set key_hash = excluded.key_hash
      returning xmax = 0, encode(fingerprint, 'hex'), encode(answer, 'hex')
      """, [.bytes(key), .bytes(fingerprint)], operation: "take the idempotency key")
    if taken.boolean(0, 0) { return nil }
    return Earlier(
      fingerprint: Hexadecimal.bytes(taken.text(0, 1) ?? ""),
      answer: Hexadecimal.bytes(taken.text(0, 2) ?? ""))
  }

  /// Stores the answer of the request that took the key.
  package func finish(key: [UInt8], answer: [UInt8]) throws(PostgresError) {
    try connection.query(
      "update api_idempotency set answer = $2 where key_hash = $1", [.bytes(key), .bytes(answer)],
      operation: "keep the answer")
  }

  /// Deletes rows that are older than a day, a bounded number at a time.
  ///
  /// - Returns: the number of deleted rows.
  @discardableResult
  package func forget() throws(PostgresError) -> Int {
    try connection.query(
      """
      delete from api_idempotency where key_hash in (
        select key_hash from api_idempotency where created_at < now() - interval '1 day'
        order by created_at limit 5000 for update skip locked)
      """, operation: "forget idempotency keys"
    ).affected
  }
}

/// The secret by which processes of `metering-api` verify each other's signatures.
package struct APISecretStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package func secret() throws(PostgresError) -> [UInt8] {
    try connection.bytes("select secret from api_secret", [], operation: "read the API's secret")
  }
}
