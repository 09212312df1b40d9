/// Names who asks for a write, and says how the request reached us. All writes of a request have the
/// same value.
package struct AuditContext: Sendable, Equatable {
  package enum ActorKind: String, Sendable, CaseIterable {
    case token
    case pageSession = "page_session"
    case portalSession = "portal_session"
    /// A person who uses `meterctl`.
    case `operator`
    case service
  }

  package var actorKind: ActorKind
  /// The id of a token or session, or the name of an operating system account.
  package var actorID: String
  package var requestID: String?
  package var address: String?
  package var userAgent: String?

  package init(
    actorKind: ActorKind, actorID: String, requestID: String? = nil, address: String? = nil,
    userAgent: String? = nil
  ) {
    self.actorKind = actorKind
    self.actorID = actorID
    self.requestID = requestID
    self.address = address
    self.userAgent = userAgent
  }
}

/// One change to record.
package struct AuditedChange: Sendable, Equatable {
  /// The action, such as `license.suspend`.
  package var action: String
  package var resourceKind: String
  package var resourceID: String
  /// The customer that the resource belongs to. Nil means the vendor.
  package var customerID: String?
  /// The resource before and after the change, as JSON objects without secrets. `before` is nil for
  /// a creation, and `after` is nil for a deletion.
  package var before: String?
  package var after: String?

  package init(
    _ action: String, _ resourceKind: String, _ resourceID: String, customerID: String? = nil,
    before: String? = nil, after: String? = nil
  ) {
    self.action = action
    self.resourceKind = resourceKind
    self.resourceID = resourceID
    self.customerID = customerID
    self.before = before
    self.after = after
  }
}

/// The log of all writes. Rows are only ever added to it.
package struct AuditStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The largest size of `before` and of `after`. A longer value is left out, and only its size is
  /// stored.
  package static let maximumStateBytes = 65_536

  /// Adds a row. Call it in the transaction of the change, so that both are stored or neither is.
  ///
  /// If `before` and `after` are both given, only the members that differ are stored. Texts that an
  /// outsider chose (`requestID`, `userAgent`, `resourceID`) are cut to what the table allows.
  package func record(
    _ change: AuditedChange, by context: AuditContext, status: Int = 200
  ) throws(PostgresError) {
    try connection.query(
      """
      insert into audit_log (actor_kind, actor_id, action, resource_kind, resource_id, customer_id, before, after,
        request_id, address, user_agent, status)
      select $1, $2, $3, $4, $5, $6,
        case when octet_length(d.before::text) > $13::int
          then jsonb_build_object('omitted_bytes', octet_length(d.before::text)) else d.before end,
        case when octet_length(d.after::text) > $13::int
          then jsonb_build_object('omitted_bytes', octet_length(d.after::text)) else d.after end,
        $9, $10, $11, $12::int
      from (select $7::jsonb as before, $8::jsonb as after) g, lateral (
        select case when g.after is null then g.before else (
            select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(g.before)
            where g.before is not null and g.after -> key is distinct from value) end as before,
          case when g.before is null then g.after else (
            select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(g.after)
            where g.after is not null and g.before -> key is distinct from value) end as after) f, lateral (
        select case when g.before is null then null else f.before end as before,
          case when g.after is null then null else f.after end as after) d
      """,
      [
        .text(context.actorKind.rawValue), .text(Self.cut(context.actorID, 256)),
        .text(change.action), .text(change.resourceKind),
        .text(Self.cut(change.resourceID, 1_024)), .optional(change.customerID),
        .optional(change.before), .optional(change.after),
        .optional(context.requestID.map { Self.cut($0, 128) }),
        .optional(context.address.map { Self.cut($0, 64) }),
        .optional(context.userAgent.map { Self.cut($0, 512) }), .int(status),
        .int(Self.maximumStateBytes),
      ], operation: "record in the audit log")
  }

  package struct Entry: Sendable, Equatable {
    package var id: Int64
    /// The time as RFC 3339 in UTC with microseconds.
    package var at: String
    package var actorKind: String
    package var actorID: String
    package var action: String
    package var resourceKind: String
    package var resourceID: String
    package var customerID: String?
    /// The resource before and after the change, as JSON objects.
    package var before: String?
    package var after: String?
    package var requestID: String?
    package var address: String?
    package var userAgent: String?
    package var status: Int64
  }

  /// Which entries to list. Nil sets no condition.
  package struct Filter: Sendable {
    package var actorID: String?
    package var action: String?
    package var resourceKind: String?
    package var resourceID: String?
    package var customerID: String?
    /// The half-open range of times in milliseconds since 1970.
    package var fromMilliseconds: Int64?
    package var toMilliseconds: Int64?

    package init() {}
  }

  /// Lists entries, newest first.
  ///
  /// - Parameter before: a cursor. Only entries after the one with this id are listed.
  package func list(
    _ filter: Filter, before: Int64? = nil, limit: Int
  ) throws(PostgresError) -> [Entry] {
    let rows = try connection.query(
      """
      select audit_id, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor_kind, actor_id, action,
        resource_kind, resource_id, customer_id, before, after, request_id, address, user_agent, status
      from audit_log
      where ($1::text is null or actor_id = $1) and ($2::text is null or action = $2)
        and ($3::text is null or resource_kind = $3) and ($4::text is null or resource_id = $4)
        and ($5::text is null or customer_id = $5)
        and ($6::bigint is null or at >= to_timestamp($6 / 1000.0))
        and ($7::bigint is null or at < to_timestamp($7 / 1000.0))
        and ($8::bigint is null or (at, audit_id) < (select b.at, b.audit_id from audit_log b where b.audit_id = $8))
      order by at desc, audit_id desc limit $9::int
      """,
      [
        .optional(filter.actorID), .optional(filter.action), .optional(filter.resourceKind),
        .optional(filter.resourceID), .optional(filter.customerID),
        filter.fromMilliseconds.map { .integer($0) } ?? .null,
        filter.toMilliseconds.map { .integer($0) } ?? .null,
        before.map { .integer($0) } ?? .null, .int(limit),
      ], operation: "read the audit log")
    return rows.rows.indices.map { i in
      Entry(
        id: rows.integer(i, 0) ?? 0, at: rows.text(i, 1) ?? "", actorKind: rows.text(i, 2) ?? "",
        actorID: rows.text(i, 3) ?? "", action: rows.text(i, 4) ?? "",
        resourceKind: rows.text(i, 5) ?? "", resourceID: rows.text(i, 6) ?? "",
        customerID: rows.text(i, 7), before: rows.text(i, 8), after: rows.text(i, 9),
        requestID: rows.text(i, 10), address: rows.text(i, 11), userAgent: rows.text(i, 12),
        status: rows.integer(i, 13) ?? 0)
    }
  }

  /// Cuts a text to a number of bytes at the end of a character, and removes NUL, which PostgreSQL
  /// cannot store.
  private static func cut(_ text: String, _ bytes: Int) -> String {
    var result = String.UnicodeScalarView()
    var used = 0
    for scalar in text.unicodeScalars {
      used += UTF8.width(scalar)
      if used > bytes { break }
      result.append(scalar.value == 0 ? "\u{FFFD}" : scalar)
      if scalar.value == 0 { used += 2 }
    }
    return String(result)
  }
}
