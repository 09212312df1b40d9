/// Indexes on tables that are written while a migration runs. A migration is a transaction, in
/// which no index can be made concurrently, so these are made behind all migrations.
package enum OnlineIndexes {
  private static let all: [(name: String, definition: String)] = [
    // Finds the newest alerts of a customer.
    ("alert_by_customer", "alert (customer_id, occurred_at)"),
    ("dead_letter_by_time", "dead_letter (received_at)"),
    // The search for a webhook-id, which receivers quote.
    ("webhook_delivery_by_webhook_id", "webhook_delivery (webhook_id)"),
    // An endpoint's deliveries, the newest first: what a customer's list is made of.
    ("webhook_delivery_newest", "webhook_delivery (endpoint_id, delivery_id)"),
  ]

  /// Makes what is missing, without keeping anybody waiting; waits itself for transactions that are
  /// open. What was cut off is made again by the next call.
  package static func make(_ connection: PostgresConnection) throws(PostgresError) {
    for index in all {
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
