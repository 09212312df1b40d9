/// Indexes on tables that are written while a migration runs. A migration is a transaction, in
/// which no index can be made concurrently, so these are made between two of them or behind all.
package enum OnlineIndexes {
  private struct Index {
    var name: String
    var definition: String
    /// The migration that needs it; nil: none does.
    var before: Int?
  }

  private static let all = [
    // Finds the newest alerts of a customer.
    Index(name: "alert_by_customer", definition: "alert (customer_id, occurred_at)"),
    Index(name: "dead_letter_by_time", definition: "dead_letter (received_at)"),
    // Readers of what is pending would walk over the whole table for each partition.
    Index(
      name: "usage_pending_by_place",
      definition: "usage_pending (partition, log_epoch, first_offset)", before: 29),
    // The search for a webhook-id, which receivers quote.
    Index(name: "webhook_delivery_by_webhook_id", definition: "webhook_delivery (webhook_id)"),
    // An endpoint's deliveries, the newest first: what a customer's list is made of.
    Index(
      name: "webhook_delivery_newest", definition: "webhook_delivery (endpoint_id, delivery_id)"),
  ]

  /// Makes what is missing, without keeping anybody waiting; waits itself for transactions that are
  /// open. What was cut off is made again by the next call.
  ///
  /// - Parameter version: only what this migration needs; nil: all.
  package static func make(
    _ connection: PostgresConnection, before version: Int? = nil
  ) throws(PostgresError) {
    for index in all where version == nil || index.before == version {
      let found = try connection.query(
        "select i.indisvalid from pg_index i where i.indexrelid = to_regclass($1)",
        [.text(index.name)], operation: "look for an index")
      if !found.isEmpty {
        if found.boolean(0, 0) { continue }
        try connection.execute("drop index concurrently \(index.name)")
      }
      try connection.execute("create index concurrently \(index.name) on \(index.definition)")
    }
  }
}
