package import Metering

/// The meter events of exports, with their outcomes.
package struct StripeEventStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// An event without an answer, with its hour.
  package struct Open: Sendable {
    package var identifier: String
    package var customer: Identifier
    package var meter: String
    /// Seconds since 1970.
    package var hour: Int64
    package var revision: Int64
    package var mode: String
    package var stripeCustomerID: String
    package var eventName: String
    package var value: Int64
    /// When it was first sent without an answer, in seconds since 1970. Nil if Stripe does not have
    /// it.
    package var doubtSince: Int64?
  }

  package func hasOpen() throws(PostgresError) -> Bool {
    try connection.query(
      "select exists (select from stripe_export_event where state = 'open')",
      operation: "look for open exports"
    ).boolean(0, 0)
  }

  package func countOpen() throws(PostgresError) -> Int64 {
    try connection.query(
      "select count(*) from stripe_export_event where state = 'open'",
      operation: "count open exports"
    ).integer(0, 0) ?? 0
  }

  /// The events without an answer, oldest hours first.
  ///
  /// - Parameter after: the last event of the previous page.
  package func open(after: Open?, limit: Int) throws(PostgresError) -> [Open] {
    let rows = try connection.query(
      """
      select v.identifier, v.customer_id, v.meter, extract(epoch from v.hour)::bigint, v.revision,
        e.mode, e.stripe_customer_id, e.event_name, v.value,
        floor(extract(epoch from v.in_doubt_since))::bigint
      from stripe_export_event v join stripe_export e using (customer_id, meter, hour)
      where v.state = 'open' and ($1::bigint is null
        or (v.hour, v.customer_id, v.meter) > (to_timestamp($1), $2 collate "C", $3 collate "C"))
      order by v.hour, v.customer_id, v.meter limit $4::int
      """,
      [
        after.map { .integer($0.hour) } ?? .null, .text(after?.customer.string ?? ""),
        .text(after?.meter ?? ""), .int(limit),
      ], operation: "read open exports")
    return rows.rows.indices.map { i in
      Open(
        identifier: rows.text(i, 0) ?? "", customer: Identifier(rows.text(i, 1) ?? ""),
        meter: rows.text(i, 2) ?? "", hour: rows.integer(i, 3) ?? 0,
        revision: rows.integer(i, 4) ?? 0, mode: rows.text(i, 5) ?? "",
        stripeCustomerID: rows.text(i, 6) ?? "", eventName: rows.text(i, 7) ?? "",
        value: rows.integer(i, 8) ?? 0, doubtSince: rows.integer(i, 9))
    }
  }

  /// Records that events are being sent. It must be committed before any of them is sent.
  package func beginSending(_ identifiers: [String]) throws(PostgresError) {
    try connection.query(
      """
      update stripe_export_event set in_doubt_since = coalesce(in_doubt_since, clock_timestamp())
      where identifier = any ($1::text[]) and state = 'open'
      """, [.texts(identifiers)], operation: "begin to send exports")
  }

  /// The outcome of one event.
  package struct Result: Sendable {
    package enum State: String, Sendable {
      case open
      case accepted
      case refused
      case lost
      case unsettled
    }

    package var identifier: String
    package var state: State
    package var attempts: Int64
    /// Whether it is unknown if Stripe has the event. It is true only in the state `open`.
    package var isInDoubt: Bool
    package var error: String?

    package init(
      identifier: String, state: State, attempts: Int64 = 0, isInDoubt: Bool = false,
      error: String? = nil
    ) {
      self.identifier = identifier
      self.state = state
      self.attempts = attempts
      self.isInDoubt = isInDoubt
      self.error = error
    }
  }

  /// Stores the outcomes of events and the states of their hours in one statement.
  package func record(_ results: [Result]) throws(PostgresError) {
    guard !results.isEmpty else { return }
    try connection.query(
      """
      with came as (
        select * from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::text[])
          r(identifier, state, attempts, is_in_doubt, error)),
      done as (
        update stripe_export_event v set state = c.state, attempts = v.attempts + c.attempts,
          in_doubt_since = case when c.is_in_doubt then v.in_doubt_since end,
          error = nullif(c.error, ''), settled_at = case when c.state <> 'open' then now() end
        from came c where v.identifier = c.identifier and v.state = 'open'
        returning v.customer_id, v.meter, v.hour, v.value, v.state, v.error)
      update stripe_export e set
        accepted = case when d.state <> 'accepted' then e.accepted
          when e.mode = 'sum' then e.accepted + d.value else d.value end,
        status = case d.state when 'accepted' then 'sent' when 'refused' then 'refused'
          when 'unsettled' then 'unsettled' else 'pending' end,
        detail = d.error, updated_at = now()
      from done d
      where e.customer_id = d.customer_id and e.meter = d.meter and e.hour = d.hour
      """,
      [
        .texts(results.map(\.identifier)), .texts(results.map(\.state.rawValue)),
        .integers(results.map(\.attempts)), .booleans(results.map(\.isInDoubt)),
        .texts(results.map { $0.error ?? "" }),
      ], operation: "store what came of exports")
  }
}
