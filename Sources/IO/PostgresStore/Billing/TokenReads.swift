package import Metering

/// Reads API tokens. `AccessStore` makes and revokes them.
package struct TokenReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A token without its secret. Times are in milliseconds since 1970.
  package struct Token: Sendable, Equatable {
    package var id: String
    package var name: String
    package var scopes: [String]
    package var customerID: Identifier?
    package var createdAt: Int64
    package var expiresAt: Int64?
    package var revokedAt: Int64?
  }

  /// Lists tokens, newest first.
  ///
  /// - Parameter before: a cursor. Only tokens after the one with this id are listed.
  package func list(
    id: String? = nil, customer: String? = nil, before: String? = nil, limit: Int
  ) throws(PostgresError) -> [Token] {
    func milliseconds(_ column: String) -> String {
      "(extract(epoch from \(column)) * 1000)::bigint"
    }
    let rows = try connection.query(
      """
      select token_id, name, array_to_string(scopes, ' '), customer_id, \(milliseconds("created_at")),
        \(milliseconds("expires_at")), \(milliseconds("revoked_at"))
      from api_token
      where ($1::text is null or token_id = $1) and ($2::text is null or customer_id = $2)
        and ($3::text is null or (created_at, token_id) < (select b.created_at, b.token_id from api_token b where b.token_id = $3))
      order by created_at desc, token_id desc limit $4::int
      """, [.optional(id), .optional(customer), .optional(before), .int(limit)],
      operation: "list tokens")
    return rows.rows.indices.map { i in
      Token(
        id: rows.text(i, 0) ?? "", name: rows.text(i, 1) ?? "",
        scopes: (rows.text(i, 2) ?? "").split(separator: " ").map(String.init),
        customerID: rows.text(i, 3).map(Identifier.init(_:)), createdAt: rows.integer(i, 4) ?? 0,
        expiresAt: rows.integer(i, 5), revokedAt: rows.integer(i, 6))
    }
  }
}
