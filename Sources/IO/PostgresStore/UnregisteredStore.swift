/// Usage of unregistered licenses. It is counted like any other usage, but nobody is billed for it.
package struct UnregisteredStore {
  private let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// One license's usage of one meter.
  package struct Row: Sendable, Equatable {
    package var license: String
    package var meter: String
    package var quantity: String
    package var eventCount: Int64
    /// The first and the last day with usage, as `2026-11-23`, UTC.
    package var firstDay: String
    package var lastDay: String
  }

  package struct Page: Sendable {
    /// The rows, in the order of licenses and meters.
    package var rows: [Row]
    /// The number of unregistered licenses in total, and after this page.
    package var licenses: Int64
    package var remaining: Int64
    package var eventCount: Int64
  }

  /// Licenses that were ever used and that nobody has registered. The running totals have a row for
  /// each of a license's periods, which are few compared with its days. Until the totals are
  /// computed, the days are read.
  private static let strangers = """
    select i.license_id from (
      select license_id from usage_license_period group by 1
      union select license_id from usage_unfolded
      union select license_id from usage_day where not (select is_complete from usage_total_state)
    ) i where not exists (select from license l where l.license_id = i.license_id)
    """

  /// The usage of up to `limit` licenses whose ids come after `after`.
  ///
  /// - Parameters:
  ///   - from: the first day, as `2026-11-23`; nil for the beginning.
  ///   - to: the day after the last one; nil for the end.
  package func page(
    after: String?, limit: Int, from: String? = nil, to: String? = nil
  ) throws(PostgresError) -> Page {
    let rows = try connection.query(
      """
      with strangers as materialized (\(Self.strangers)), sums as materialized (
        select u.license_id, u.meter, sum(u.quantity) as quantity, sum(u.event_count) as events,
          min(u.bucket_start) as first_day, max(u.bucket_start) as last_day
        from strangers s, lateral (
          select * from usage_by_day d where d.license_id = s.license_id offset 0) u
        where ($3::text is null or u.bucket_start >= $3::timestamp at time zone 'UTC')
          and ($4::text is null or u.bucket_start < $4::timestamp at time zone 'UTC')
        group by 1, 2
      ), ids as (
        select license_id from sums
        where $1::text is null or license_id > $1 collate "C" group by 1
      ), shown as (
        select license_id from ids order by 1 limit $2::int
      ), totals as (
        select (select count(distinct license_id) from sums) as licenses,
          (select count(*) from ids) - (select count(*) from shown) as remaining,
          (select coalesce(sum(events), 0) from sums) as events
      )
      select t.licenses, t.remaining, t.events, s.license_id, s.meter, s.quantity, s.events,
        to_char(s.first_day at time zone 'UTC', 'YYYY-MM-DD'),
        to_char(s.last_day at time zone 'UTC', 'YYYY-MM-DD')
      from totals t left join (sums s join shown using (license_id)) on true
      order by s.license_id, s.meter
      """, [.optional(after), .int(limit), .optional(from), .optional(to)],
      operation: "read unregistered usage")
    return Page(
      rows: rows.rows.indices.compactMap { i in
        guard let license = rows.text(i, 3) else { return nil }
        return Row(
          license: license, meter: rows.text(i, 4) ?? "", quantity: rows.text(i, 5) ?? "0",
          eventCount: rows.integer(i, 6) ?? 0, firstDay: rows.text(i, 7) ?? "",
          lastDay: rows.text(i, 8) ?? "")
      },
      licenses: rows.integer(0, 0) ?? 0, remaining: rows.integer(0, 1) ?? 0,
      eventCount: rows.integer(0, 2) ?? 0)
  }

  /// How many unregistered licenses are used today (UTC), and with how many events.
  package func today() throws(PostgresError) -> (licenses: Int64, eventCount: Int64) {
    let rows = try connection.query(
      """
      select count(distinct u.license_id), coalesce(sum(u.event_count), 0) from usage_by_day u
      where u.bucket_start >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
        and not exists (select from license l where l.license_id = u.license_id)
      """, operation: "count unregistered usage")
    return (rows.integer(0, 0) ?? 0, rows.integer(0, 1) ?? 0)
  }
}
