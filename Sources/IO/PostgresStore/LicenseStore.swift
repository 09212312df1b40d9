import Metering

/// Licenses, their limits and their billing anchors.
package struct LicenseStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// The licenses that an import changed.
  package struct Counts: Sendable, Equatable {
    package var created = 0
    package var changed = 0
    package var unchanged = 0

    package init() {}
  }

  /// Lets one import run at a time, until the transaction ends. Call it first in the transaction.
  package func lockForImport() throws(PostgresError) {
    try connection.lock(.licenseImport, operation: "license import")
  }

  /// Creates or changes licenses within the caller's transaction. `json` is an array of objects
  /// with the columns of `input` below, and no license twice. `billing_anchor_day`, `trial`,
  /// `overage_policy` and `alert_thresholds` may be null: an existing license then keeps its value,
  /// and a new one gets the default. `limits` is complete: a meter that it does not name has no
  /// limit afterwards. `updated_at` moves only if something changed.
  ///
  /// A new anchor day takes effect at its first anchor date after today (UTC), which makes one
  /// short period. An earlier change that is not in effect yet is replaced.
  package func upsert(json: String) throws(PostgresError) -> Counts {
    let input = """
      with input as materialized (select * from json_to_recordset($1::json) as x(license_id text, customer_id text,
        plan text, features text[], domains text[], limits json, seats int, status text, issued_at timestamptz,
        expires_at timestamptz, billing_anchor_day int, trial boolean, overage_policy text, alert_thresholds int[]))
      """
    func run(_ sql: String) throws(PostgresError) -> SQLRows {
      try connection.query(input + sql, [.text(json)], operation: "license import")
    }
    func ids(_ rows: SQLRows) -> Set<Identifier> { Self.ids(rows.rows) }

    _ = try run(
      """
       insert into customer (customer_id, name) select distinct customer_id, customer_id from input
      order by 1 on conflict do nothing
      """)
    let existing = ids(
      try run(" select license_id from license join input using (license_id) for update of license")
    )
    let count = try run(
      """
       insert into license (license_id, customer_id, plan, features, domains, seats, status, issued_at, expires_at,
        billing_anchor_day, trial, overage_policy, alert_thresholds)
      select license_id, customer_id, plan, features, domains, seats, status, issued_at, expires_at,
        coalesce(billing_anchor_day, 1), coalesce(trial, false), coalesce(overage_policy, 'block'),
        coalesce(alert_thresholds, '{80,100}')
      from input i where not exists (select from license l where l.license_id = i.license_id)
      """
    ).affected
    var changed = ids(
      try run(
        """
         update license l set customer_id = i.customer_id, plan = i.plan, features = i.features, domains = i.domains,
          seats = i.seats, status = i.status, issued_at = i.issued_at, expires_at = i.expires_at,
          billing_anchor_day = coalesce(i.billing_anchor_day, l.billing_anchor_day),
          trial = coalesce(i.trial, l.trial), overage_policy = coalesce(i.overage_policy, l.overage_policy),
          alert_thresholds = coalesce(i.alert_thresholds, l.alert_thresholds), updated_at = now()
        from input i where i.license_id = l.license_id
          and (l.customer_id, l.plan, l.features, l.domains, l.seats, l.status, l.issued_at, l.expires_at,
            l.billing_anchor_day, l.trial, l.overage_policy, l.alert_thresholds)
          is distinct from (i.customer_id, i.plan, i.features, i.domains, i.seats, i.status, i.issued_at, i.expires_at,
            coalesce(i.billing_anchor_day, l.billing_anchor_day), coalesce(i.trial, l.trial),
            coalesce(i.overage_policy, l.overage_policy), coalesce(i.alert_thresholds, l.alert_thresholds))
        returning l.license_id
        """))
    let apart = try limits(run).union(anchors(run))
    let onlyApart = apart.intersection(existing).subtracting(changed)
    if !onlyApart.isEmpty {
      try connection.query(
        "update license set updated_at = now() where license_id = any ($1::text[])",
        [.identifiers(Array(onlyApart))], operation: "license import")
    }
    changed.formUnion(onlyApart)
    var counts = Counts()
    counts.created = count
    counts.changed = changed.count
    counts.unchanged = existing.count - changed.count
    return counts
  }

  /// - Returns: the licenses whose limits have changed.
  private func limits(
    _ run: (String) throws(PostgresError) -> SQLRows
  ) throws(PostgresError) -> Set<Identifier> {
    let gone = try run(
      """
       delete from license_limit l using input i where l.license_id = i.license_id
        and not (i.limits::jsonb ? l.meter) returning l.license_id
      """)
    let set = try run(
      """
       insert into license_limit as l (license_id, meter, quantity)
      select i.license_id, e.key, e.value::bigint from input i, json_each_text(i.limits) e order by 1, 2
      on conflict (license_id, meter) do update set quantity = excluded.quantity
      where l.quantity <> excluded.quantity returning l.license_id
      """)
    return Self.ids(gone.rows + set.rows)
  }

  private static func ids(_ rows: [[String?]]) -> Set<Identifier> {
    Set(rows.compactMap { $0[0].map(Identifier.init(_:)) })
  }

  /// - Returns: the licenses whose anchor, or its coming change, has changed.
  private func anchors(
    _ run: (String) throws(PostgresError) -> SQLRows
  ) throws(PostgresError) -> Set<Identifier> {
    // Every license has an anchor. For one without, the column has the value.
    _ = try run(
      """
       insert into license_billing_anchor (license_id, effective_from, anchor_day)
      select license_id, '-infinity', l.billing_anchor_day from input join license l using (license_id)
      where not exists (select from license_billing_anchor b where b.license_id = l.license_id)
      """)
    let wanted = """
      , today as (select (now() at time zone 'UTC')::date as day),
      wanted as (
        select i.license_id, i.billing_anchor_day as anchor_day, c.anchor_day as current_day, t.day as today,
          next_anchor(t.day, i.billing_anchor_day) as begins
        from input i, today t, lateral (
          select b.anchor_day from license_billing_anchor b
          where b.license_id = i.license_id and b.effective_from <= t.day
          order by b.effective_from desc limit 1) c
        where i.billing_anchor_day is not null)
      """
    let withdrawn = try run(
      wanted + """
         delete from license_billing_anchor b using wanted w
        where b.license_id = w.license_id and b.effective_from > w.today
          and (w.current_day = w.anchor_day or b.effective_from <> w.begins or b.anchor_day <> w.anchor_day)
        returning b.license_id
        """)
    let begun = try run(
      wanted + """
         insert into license_billing_anchor (license_id, effective_from, anchor_day)
        select license_id, begins, anchor_day from wanted where current_day <> anchor_day
        on conflict do nothing returning license_id
        """)
    return Self.ids(withdrawn.rows + begun.rows)
  }

  /// A license in the form that `upsert` takes, but with `seats` among the limits, as in a line of
  /// an import. It is a JSON object with times to the microsecond and no anchor day. The row is
  /// locked until the transaction ends.
  ///
  /// - Returns: nil if there is no such license.
  package func lockedLine(id: String) throws(PostgresError) -> String? {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    }
    return try connection.query(
      """
      select json_build_object('license_id', license_id, 'customer_id', customer_id, 'plan', plan, 'features', features,
        'domains', domains, 'limits', (select coalesce(jsonb_object_agg(
          case meter when 'api_calls' then 'apiCalls' else meter end, quantity), '{}') from license_limit m
          where m.license_id = l.license_id) || jsonb_strip_nulls(jsonb_build_object('seats', seats)),
        'status', status, 'issued_at', \(time("issued_at")), 'expires_at', \(time("expires_at")),
        'billing_anchor_day', null, 'trial', trial, 'overage_policy', overage_policy,
        'alert_thresholds', alert_thresholds)
      from license l where license_id = $1 for update of l
      """, [.text(id)], operation: "change a license"
    ).rows.first?[0]
  }

  /// Changes the status. A canceled license stays canceled.
  ///
  /// - Returns: the license's status afterwards; nil if there is no such license.
  package func setStatus(_ status: String, id: String) throws(PostgresError) -> String? {
    try connection.query(
      """
      update license set status = case when status = 'canceled' then status else $2 end,
        updated_at = case when status in ('canceled', $2) then updated_at else now() end
      where license_id = $1 returning status
      """, [.text(id), .text(status)], operation: "change a license"
    ).rows.first?[0]
  }

  /// The columns for display: all columns of `license`, its limits as a JSON object, and the
  /// anchors as a JSON array, as text.
  package static let columns = [
    "license_id", "customer_id", "plan", "features", "domains", "seats", "trial", "status",
    "overage_policy", "alert_thresholds", "issued_at", "expires_at", "billing_anchor_day",
    "created_at", "updated_at", "limits", "billing_anchors",
  ]

  /// Licenses, in the order of their ids.
  ///
  /// - Parameters: nil selects all. `limit` is the most rows.
  package func licenses(
    id: String? = nil, customer: String? = nil, status: String? = nil, limit: Int
  ) throws(PostgresError) -> SQLRows {
    func time(_ column: String) -> String {
      "to_char(\(column) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as \(column)"
    }
    return try connection.query(
      """
      select license_id, customer_id, plan, to_json(features) as features, to_json(domains) as domains, seats, trial,
        status, overage_policy, to_json(alert_thresholds) as alert_thresholds, \(time("issued_at")),
        \(time("expires_at")), billing_anchor_day, \(time("created_at")), \(time("updated_at")),
        (select coalesce(json_object_agg(meter, quantity order by meter), '{}') from license_limit m
          where m.license_id = l.license_id) as limits,
        (select coalesce(json_agg(json_build_object('effective_from',
            case when effective_from = '-infinity' then null else effective_from end, 'anchor_day', anchor_day)
            order by effective_from), '[]')
          from license_billing_anchor b where b.license_id = l.license_id) as billing_anchors
      from license l
      where ($1::text is null or license_id = $1) and ($2::text is null or customer_id = $2)
        and ($3::text is null or status = $3)
      order by license_id limit $4::bigint
      """,
      [.optional(id), .optional(customer), .optional(status), .int(limit)],
      operation: "read licenses")
  }
}
