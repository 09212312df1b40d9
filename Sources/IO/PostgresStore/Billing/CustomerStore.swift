package import Metering

/// Customers, to whom licenses belong.
package struct CustomerStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Customer: Sendable, Equatable {
    package var id: Identifier
    package var name: String
    package var stripeCustomerID: String?
    /// The time of creation in milliseconds since 1970.
    package var createdAt: Int64
    package var licenses: Int64
  }

  /// Lists customers in the order of their ids.
  ///
  /// - Parameters:
  ///   - search: the beginning of an id, or a part of a name. Nil selects all.
  ///   - after: only ids after this one.
  package func list(
    id: String? = nil, search: String? = nil, after: String? = nil, limit: Int
  ) throws(PostgresError) -> [Customer] {
    let rows = try connection.query(
      """
      select customer_id, name, stripe_customer_id, (extract(epoch from created_at) * 1000)::bigint,
        (select count(*) from license l where l.customer_id = c.customer_id)
      from customer c
      where ($1::text is null or customer_id = $1)
        and ($2::text is null or customer_id ^@ $2 or strpos(lower(name), lower($2)) > 0)
        and ($3::text is null or customer_id > $3)
      order by customer_id limit $4::int
      """, [.optional(id), .optional(search), .optional(after), .int(limit)],
      operation: "read customers")
    return rows.rows.indices.map { i in
      Customer(
        id: Identifier(rows.text(i, 0) ?? ""), name: rows.text(i, 1) ?? "",
        stripeCustomerID: rows.text(i, 2), createdAt: rows.integer(i, 3) ?? 0,
        licenses: rows.integer(i, 4) ?? 0)
    }
  }

  package func customer(_ id: String) throws(PostgresError) -> Customer? {
    try list(id: id, limit: 1).first
  }

  /// Locks a customer until the transaction ends. Returns false if there is no such customer.
  package func lock(_ id: String) throws(PostgresError) -> Bool {
    try connection.query(
      "select from customer where customer_id = $1 for no key update", [.text(id)],
      operation: "change a customer"
    ).rows.count > 0
  }

  /// Adds a customer. Returns false if the id is already in use.
  package func add(
    _ id: String, name: String, stripeCustomerID: String?
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      insert into customer (customer_id, name, stripe_customer_id) values ($1, $2, $3) on conflict do nothing
      """, [.text(id), .text(name), .optional(stripeCustomerID)], operation: "add a customer"
    ).affected == 1
  }

  /// Sets both values. Returns false if there is no such customer.
  package func update(
    _ id: String, name: String, stripeCustomerID: String?
  ) throws(PostgresError) -> Bool {
    try connection.query(
      "update customer set name = $2, stripe_customer_id = $3 where customer_id = $1",
      [.text(id), .text(name), .optional(stripeCustomerID)], operation: "change a customer"
    ).affected == 1
  }
}
