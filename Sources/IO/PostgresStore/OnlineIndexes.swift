/// Indexes on tables that are written while a migration runs. A migration is a transaction, in
/// which an index cannot be created concurrently, so these are created between two migrations or
/// after all of them.
package enum OnlineIndexes {
  private struct Index {
    var name: String
    var definition: String
    /// The migration that needs the index. It is nil if none does.
    var before: Int?
  }

  private static let all = [
    // Finds the newest alerts of a customer.
    Index(name: "alert_by_customer", definition: "alert (customer_id, occurred_at)"),
    Index(name: "dead_letter_by_time", definition: "dead_letter (received_at)"),
    // Finds the limits that are used up before anything is used.
    Index(
      name: "license_limit_of_zero",
      definition: "license_limit (license_id, meter) where quantity = 0"),
    // Readers of what is pending would walk over the whole table for each partition.
    Index(
      name: "usage_pending_by_place",
      definition: "usage_pending (partition, log_epoch, first_offset)", before: 29),
    // Lists a customer's closed periods. Without it, a page walked over those of all customers.
    Index(
      name: "usage_period_closed_in_order",
      definition: "usage_period_closed (customer_id, license_id, meter, period_start)"),
    // Finds a webhook-id, which receivers quote.
    Index(name: "webhook_delivery_by_webhook_id", definition: "webhook_delivery (webhook_id)"),
    // Lists an endpoint's deliveries, newest first, on a customer's pages.
    Index(
      name: "webhook_delivery_newest", definition: "webhook_delivery (endpoint_id, delivery_id)"),
  ]

  /// Creates missing indexes without holding up others. It waits for open transactions itself. An
  /// index whose creation was cut off is created again by the next call.
  ///
  /// - Parameter version: the migration that needs the indexes. It is nil for all indexes.
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
