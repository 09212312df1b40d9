package import Metering

/// Exported hours, and hours that must be exported.
package struct StripeExportStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// Takes the lock for exporting. Only one connection of a database has it, until `unlock` or the
  /// end of the connection.
  package func tryLock() throws(PostgresError) -> Bool {
    try connection.tryLockForSession(.stripeExport, operation: "lock the export")
  }

  package func unlock() throws(PostgresError) {
    try connection.unlock(.stripeExport, operation: "unlock the export")
  }

  /// The time of PostgreSQL's clock in seconds since 1970. Ages are measured with it.
  package func now() throws(PostgresError) -> Int64 {
    try connection.query(
      "select floor(extract(epoch from clock_timestamp()))::bigint", operation: "read the clock"
    ).integer(0, 0) ?? 0
  }

  /// The first hour whose usage rows are all still stored, in seconds since 1970.
  package func firstHour() throws(PostgresError) -> Int64 {
    try connection.query(
      """
      select extract(epoch from greatest(date_trunc('hour', now()) - make_interval(days => $1::int),
        (select newest_hour_gone + interval '1 hour' from usage_retention
          where newest_hour_gone > '-infinity')))::bigint
      """, [.integer(SchemaContract.hourDays)], operation: "read how far usage reaches"
    ).integer(0, 0) ?? 0
  }

  // MARK: Planning

  /// The customers that have licenses or exported hours, in the order of their ids.
  package func customers(after: String, limit: Int) throws(PostgresError) -> [String] {
    try connection.query(
      """
      select customer_id from customer c
      where customer_id > $1 and (exists (select from license l where l.customer_id = c.customer_id)
        or exists (select from stripe_export e where e.customer_id = c.customer_id))
      order by customer_id limit $2::int
      """, [.text(after), .int(limit)], operation: "read customers"
    ).rows.compactMap { $0[0] }
  }

  /// An hour with its counts and what was exported for it.
  package struct Hour: Sendable {
    package var customer: Identifier
    package var meter: String
    /// Seconds since 1970.
    package var hour: Int64
    package var quantity: Int64
    package var stripeCustomerID: String?
    package var isShared: Bool
    /// The status. Nil if there is no row yet.
    package var status: String?
    package var mode: String?
    package var sentTo: String?
    package var eventName: String?
    package var accepted: Int64
    package var revision: Int64
    package var hasOpenEvent: Bool
  }

  /// The hours to look at, as a half-open range in seconds since 1970.
  package struct Range: Sendable {
    package var first: Int64
    package var end: Int64
    /// From this hour on, an exported hour without usage counts as 0.
    package var firstSendable: Int64

    package init(first: Int64, end: Int64, firstSendable: Int64) {
      self.first = first
      self.end = end
      self.firstSendable = firstSendable
    }
  }

  /// The hours of some customers that may need an action, by customer, meter and hour.
  ///
  /// - Parameter after: the last hour of the previous page.
  package func hours(
    of customers: [String], meters: [String], _ range: Range, after: Hour?, limit: Int
  ) throws(PostgresError) -> [Hour] {
    let rows = try connection.query(
      """
      with chosen as (
        select c.customer_id, c.stripe_customer_id, coalesce(s.customers > 1, false) as is_shared
        from customer c left join (
          select stripe_customer_id, count(*) as customers from customer
          where stripe_customer_id in (
            select stripe_customer_id from customer where customer_id = any ($1::text[]))
          group by stripe_customer_id) s using (stripe_customer_id)
        where c.customer_id = any ($1::text[])),
      used as (
        select u.customer_id, u.meter, u.bucket_start as hour,
          least(sum(u.quantity), 9223372036854775807)::bigint as quantity
        from billing_usage_by_hour u
        where u.customer_id = any ($1::text[]) and u.meter = any ($2::text[])
          and u.bucket_start >= to_timestamp($3::bigint)
          and u.bucket_start < to_timestamp($4::bigint)
        group by 1, 2, 3),
      known as (
        select e.*, exists (select from stripe_export_event v
          where v.customer_id = e.customer_id and v.meter = e.meter and v.hour = e.hour
            and v.state = 'open') as has_open
        from stripe_export e
        where e.customer_id = any ($1::text[]) and e.meter = any ($2::text[])
          and e.hour >= to_timestamp($3::bigint) and e.hour < to_timestamp($4::bigint))
      select customer_id, meter, extract(epoch from hour)::bigint, coalesce(u.quantity, 0),
        c.stripe_customer_id, c.is_shared, k.status, k.mode, k.stripe_customer_id, k.event_name,
        coalesce(k.accepted, 0), coalesce(k.revision, 0), coalesce(k.has_open, false)
      from used u full join known k using (customer_id, meter, hour)
      join chosen c using (customer_id)
      where (u.quantity is not null or hour >= to_timestamp($5::bigint))
        and (k.status is null and u.quantity > 0 or k.quantity <> coalesce(u.quantity, 0)
          or k.status in ('pending', 'refused')
          or k.status in ('unlinked', 'shared') and c.stripe_customer_id is not null)
        and ($6::text is null
          or (customer_id collate "C", meter collate "C", hour)
            > ($6 collate "C", $7 collate "C", to_timestamp($8::bigint)))
      order by customer_id collate "C", meter collate "C", hour limit $9::int
      """,
      [
        .texts(customers), .texts(meters), .integer(range.first), .integer(range.end),
        .integer(range.firstSendable), .optional(after?.customer.string), .optional(after?.meter),
        .integer(after?.hour ?? 0), .int(limit),
      ], operation: "read what is to be exported")
    return rows.rows.indices.map { i in
      Hour(
        customer: Identifier(rows.text(i, 0) ?? ""), meter: rows.text(i, 1) ?? "",
        hour: rows.integer(i, 2) ?? 0, quantity: rows.integer(i, 3) ?? 0,
        stripeCustomerID: rows.text(i, 4), isShared: rows.boolean(i, 5), status: rows.text(i, 6),
        mode: rows.text(i, 7), sentTo: rows.text(i, 8), eventName: rows.text(i, 9),
        accepted: rows.integer(i, 10) ?? 0, revision: rows.integer(i, 11) ?? 0,
        hasOpenEvent: rows.boolean(i, 12))
    }
  }

  /// The decision about an hour.
  package struct Plan: Sendable {
    package var customer: Identifier
    package var meter: String
    package var hour: Int64
    package var status: String
    package var quantity: Int64
    /// The event to send. Nil if there is nothing to send.
    package var event: Event?

    package init(
      customer: Identifier, meter: String, hour: Int64, status: String, quantity: Int64,
      event: Event?
    ) {
      self.customer = customer
      self.meter = meter
      self.hour = hour
      self.status = status
      self.quantity = quantity
      self.event = event
    }
  }

  package struct Event: Sendable {
    package var identifier: String
    package var revision: Int64
    package var mode: String
    package var stripeCustomerID: String
    package var eventName: String
    package var value: Int64

    package init(
      identifier: String, revision: Int64, mode: String, stripeCustomerID: String,
      eventName: String, value: Int64
    ) {
      self.identifier = identifier
      self.revision = revision
      self.mode = mode
      self.stripeCustomerID = stripeCustomerID
      self.eventName = eventName
      self.value = value
    }
  }

  /// Stores decisions. Their events then wait to be sent. Call it in a transaction.
  package func store(_ plans: [Plan]) throws(PostgresError) {
    guard !plans.isEmpty else { return }
    try connection.query(
      """
      insert into stripe_export as e (customer_id, meter, hour, status, quantity, revision, mode,
        stripe_customer_id, event_name)
      select p.customer_id, p.meter, to_timestamp(p.hour), p.status, p.quantity, p.revision,
        nullif(p.mode, ''), nullif(p.stripe_customer_id, ''), nullif(p.event_name, '')
      from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
        $7::text[], $8::text[], $9::text[])
        p(customer_id, meter, hour, status, quantity, revision, mode, stripe_customer_id,
          event_name)
      on conflict (customer_id, meter, hour) do update set status = excluded.status,
        quantity = excluded.quantity, revision = greatest(e.revision, excluded.revision),
        mode = coalesce(excluded.mode, e.mode),
        stripe_customer_id = coalesce(excluded.stripe_customer_id, e.stripe_customer_id),
        event_name = coalesce(excluded.event_name, e.event_name), detail = null, updated_at = now()
      """,
      [
        .identifiers(plans.map(\.customer)), .texts(plans.map(\.meter)),
        .integers(plans.map(\.hour)), .texts(plans.map(\.status)),
        .integers(plans.map(\.quantity)), .integers(plans.map { $0.event?.revision ?? 0 }),
        .texts(plans.map { $0.event?.mode ?? "" }),
        .texts(plans.map { $0.event?.stripeCustomerID ?? "" }),
        .texts(plans.map { $0.event?.eventName ?? "" }),
      ], operation: "plan an export")
    let sending = plans.filter { $0.event != nil }
    guard !sending.isEmpty else { return }
    try connection.query(
      """
      insert into stripe_export_event (identifier, customer_id, meter, hour, revision, value)
      select p.identifier, p.customer_id, p.meter, to_timestamp(p.hour), p.revision, p.value
      from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
        p(identifier, customer_id, meter, hour, revision, value)
      """,
      [
        .texts(sending.map { $0.event?.identifier ?? "" }),
        .identifiers(sending.map(\.customer)), .texts(sending.map(\.meter)),
        .integers(sending.map(\.hour)), .integers(sending.map { $0.event?.revision ?? 0 }),
        .integers(sending.map { $0.event?.value ?? 0 }),
      ], operation: "plan an export")
  }

  /// The number of rows by status, without the rows that Stripe has.
  package func counts() throws(PostgresError) -> [String: Int64] {
    let rows = try connection.query(
      "select status, count(*) from stripe_export where status <> 'sent' group by status",
      operation: "count exports")
    return Dictionary(
      uniqueKeysWithValues: rows.rows.map { ($0[0] ?? "", Int64($0[1] ?? "") ?? 0) })
  }

  /// The customers with usage and without a `stripe_customer_id`.
  package func unlinkedCustomers(limit: Int) throws(PostgresError) -> [String] {
    try connection.query(
      """
      select distinct customer_id from stripe_export where status = 'unlinked'
      order by customer_id limit $1::int
      """, [.int(limit)], operation: "read customers that Stripe does not know"
    ).rows.compactMap { $0[0] }
  }

  /// Deletes hours whose usage is deleted as well, a bounded number at a time.
  @discardableResult
  package func retain() throws(PostgresError) -> Int {
    try connection.query(
      """
      delete from stripe_export where (customer_id, meter, hour) in (
        select customer_id, meter, hour from stripe_export e
        where hour < date_trunc('hour', now()) - interval '401 days' and not exists (
          select from stripe_export_event v where v.state = 'open' and v.customer_id = e.customer_id
            and v.meter = e.meter and v.hour = e.hour)
        order by hour limit 5000)
      """, operation: "forget exports"
    ).affected
  }
}
