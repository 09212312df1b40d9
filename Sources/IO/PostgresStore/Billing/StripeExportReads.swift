package import Metering

/// Exported hours, for people and for `meterctl reconcile stripe`.
package struct StripeExportReads {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Row: Sendable {
    package var customer: Identifier
    package var meter: String
    /// Milliseconds since 1970.
    package var hour: Int64
    package var status: String
    package var mode: String?
    package var stripeCustomerID: String?
    package var eventName: String?
    package var quantity: Int64
    package var accepted: Int64
    package var revision: Int64
    /// The identifier of the last event.
    package var identifier: String?
    package var attempts: Int64
    package var detail: String?
    /// Milliseconds since 1970.
    package var updatedAt: Int64

    /// The key of the row, after which the next page begins.
    package var key: [String] { [String(hour), customer.string, meter] }
  }

  /// Which hours to list. Nil sets no condition.
  package struct Filter: Sendable {
    package var status: String?
    package var customer: Identifier?
    package var meter: String?
    /// The half-open range of hours in milliseconds since 1970.
    package var from: Int64?
    package var to: Int64?

    package init() {}
  }

  /// Lists hours, newest first.
  ///
  /// - Parameter after: the `key` of the previous row.
  package func rows(
    _ filter: Filter, after: [String]?, limit: Int
  ) throws(PostgresError) -> [Row] {
    let after = after.flatMap { $0.count == 3 ? $0 : nil }
    let rows = try connection.query(
      """
      select e.customer_id, e.meter, (extract(epoch from e.hour) * 1000)::bigint, e.status, e.mode,
        coalesce(e.stripe_customer_id, c.stripe_customer_id), e.event_name, e.quantity, e.accepted,
        e.revision, v.identifier, coalesce(v.attempts, 0), e.detail,
        floor(extract(epoch from e.updated_at) * 1000)::bigint
      from stripe_export e left join customer c on c.customer_id = e.customer_id
      left join lateral (
        select identifier, attempts from stripe_export_event v
        where v.customer_id = e.customer_id and v.meter = e.meter and v.hour = e.hour
        order by v.revision desc limit 1) v on true
      where ($1::text is null or e.status = $1) and ($2::text is null or e.customer_id = $2)
        and ($3::text is null or e.meter = $3)
        and ($4::bigint is null or e.hour >= to_timestamp($4 / 1000.0))
        and ($5::bigint is null or e.hour < to_timestamp($5 / 1000.0))
        and ($6::bigint is null or e.hour <= to_timestamp($6 / 1000.0))
        and ($6::bigint is null or e.hour < to_timestamp($6 / 1000.0)
          or (e.customer_id, e.meter) > ($7 collate "C", $8 collate "C"))
      order by e.hour desc, e.customer_id, e.meter limit $9::int
      """,
      [
        .optional(filter.status), .optional(filter.customer?.string), .optional(filter.meter),
        filter.from.map { .integer($0) } ?? .null, filter.to.map { .integer($0) } ?? .null,
        after.flatMap { Int64($0[0]) }.map { .integer($0) } ?? .null, .optional(after?[1]),
        .optional(after?[2]), .int(limit),
      ], operation: "read exports")
    return rows.rows.indices.map { i in
      Row(
        customer: Identifier(rows.text(i, 0) ?? ""), meter: rows.text(i, 1) ?? "",
        hour: rows.integer(i, 2) ?? 0, status: rows.text(i, 3) ?? "", mode: rows.text(i, 4),
        stripeCustomerID: rows.text(i, 5), eventName: rows.text(i, 6),
        quantity: rows.integer(i, 7) ?? 0, accepted: rows.integer(i, 8) ?? 0,
        revision: rows.integer(i, 9) ?? 0, identifier: rows.text(i, 10),
        attempts: rows.integer(i, 11) ?? 0, detail: rows.text(i, 12),
        updatedAt: rows.integer(i, 13) ?? 0)
    }
  }

  // MARK: Comparing

  /// A customer and a meter at Stripe, with the hours that were exported to them.
  package struct Place: Sendable, Hashable {
    package var eventName: String
    package var stripeCustomerID: String
    /// The first exported hour and the end of the last one, in seconds since 1970.
    package var first: Int64
    package var end: Int64

    package init(eventName: String, stripeCustomerID: String, first: Int64, end: Int64) {
      self.eventName = eventName
      self.stripeCustomerID = stripeCustomerID
      self.first = first
      self.end = end
    }
  }

  /// Lists places in the order of their names.
  ///
  /// - Parameters:
  ///   - from, to: a half-open range in seconds since 1970. Nil stands for no bound.
  package func places(
    from: Int64?, to: Int64?, after: Place?, limit: Int
  ) throws(PostgresError) -> [Place] {
    let rows = try connection.query(
      """
      select event_name collate "C", stripe_customer_id collate "C",
        extract(epoch from min(hour))::bigint, extract(epoch from max(hour))::bigint + 3600
      from stripe_export
      where revision > 0 and ($1::bigint is null or hour >= to_timestamp($1))
        and ($2::bigint is null or hour < to_timestamp($2))
        and ($3::text is null
          or (event_name collate "C", stripe_customer_id collate "C") > ($3, $4))
      group by 1, 2 order by 1, 2 limit $5::int
      """,
      [
        from.map { .integer($0) } ?? .null, to.map { .integer($0) } ?? .null,
        .optional(after?.eventName), .optional(after?.stripeCustomerID), .int(limit),
      ], operation: "read exports to compare")
    return rows.rows.indices.map { i in
      Place(
        eventName: rows.text(i, 0) ?? "", stripeCustomerID: rows.text(i, 1) ?? "",
        first: rows.integer(i, 2) ?? 0, end: rows.integer(i, 3) ?? 0)
    }
  }

  /// What Stripe should have for a place's hour.
  package struct Expected: Sendable {
    /// Seconds since 1970.
    package var hour: Int64
    package var accepted: Int64
    /// The quantity of events that are in doubt.
    package var doubtful: Int64
    package var rows: Int64
    /// The customer of the row, if there is only one row.
    package var customer: Identifier
    package var meter: String
    /// Seconds since 1970.
    package var updatedAt: Int64
  }

  package func expected(_ place: Place) throws(PostgresError) -> [Expected] {
    let rows = try connection.query(
      """
      select extract(epoch from e.hour)::bigint, sum(e.accepted)::bigint,
        coalesce(sum(v.value), 0)::bigint, count(*), min(e.customer_id), min(e.meter),
        floor(extract(epoch from max(e.updated_at)))::bigint
      from stripe_export e left join stripe_export_event v on v.customer_id = e.customer_id
        and v.meter = e.meter and v.hour = e.hour and v.state = 'open'
        and v.in_doubt_since is not null
      where e.event_name = $1 and e.stripe_customer_id = $2 and e.revision > 0
        and e.hour >= to_timestamp($3::bigint) and e.hour < to_timestamp($4::bigint)
      group by e.hour order by e.hour
      """,
      [
        .text(place.eventName), .text(place.stripeCustomerID), .integer(place.first),
        .integer(place.end),
      ], operation: "read exports to compare")
    return rows.rows.indices.map { i in
      Expected(
        hour: rows.integer(i, 0) ?? 0, accepted: rows.integer(i, 1) ?? 0,
        doubtful: rows.integer(i, 2) ?? 0, rows: rows.integer(i, 3) ?? 0,
        customer: Identifier(rows.text(i, 4) ?? ""), meter: rows.text(i, 5) ?? "",
        updatedAt: rows.integer(i, 6) ?? 0)
    }
  }

  /// Stores Stripe's own number as the quantity that Stripe has for an hour, so that the next
  /// export sends the rest. Returns false if an event of the hour is still open.
  package func take(
    customer: Identifier, meter: String, hour: Int64, accepted: Int64
  ) throws(PostgresError) -> Bool {
    try connection.query(
      """
      update stripe_export e
      set accepted = $4, status = 'pending', detail = null, updated_at = now()
      where customer_id = $1 and meter = $2 and hour = to_timestamp($3::bigint) and not exists (
        select from stripe_export_event v where v.state = 'open' and v.customer_id = e.customer_id
          and v.meter = e.meter and v.hour = e.hour)
      """,
      [.identifier(customer), .text(meter), .integer(hour), .integer(accepted)],
      operation: "correct an export"
    ).affected == 1
  }
}
