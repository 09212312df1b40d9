import Metering

/// Writes the statement of a page of periods. A filter that is not given adds no condition, so that
/// one plan fits all filters of the same shape.
struct PeriodSQL {
  private(set) var parameters: [SQLValue] = []
  private let filter: PeriodStore.Filter
  private let limit: Int
  private let grace: String
  /// Conditions on the table `t`, whose columns are the key and the end of a total.
  private let wanted: [String]
  /// A condition on the column `license_id` of another table.
  private let license: String?
  private let customer: String?

  init(_ filter: PeriodStore.Filter, after: PeriodID?, limit: Int) {
    self.filter = filter
    self.limit = limit
    var parameters: [SQLValue] = []
    func add(_ value: SQLValue, _ type: String) -> String {
      parameters.append(value)
      return "$\(parameters.count)::\(type)"
    }
    grace = "make_interval(secs => \(add(.integer(filter.graceSeconds), "bigint")))"
    // Results of functions have the database's collation, and indexes have "C".
    license = filter.license.map { add(.identifier($0), "text") + " collate \"C\"" }
    customer = filter.customer.map { add(.identifier($0), "text") }
    var wanted: [String] = []
    if let license { wanted.append("t.license_id = \(license)") }
    if let day = filter.endingBefore { wanted.append("t.period_end <= \(add(.text(day), "date"))") }
    if let after {
      let key = [
        add(.identifier(after.license), "text") + " collate \"C\"",
        add(.text(after.meter), "text") + " collate \"C\"", add(.text(after.start), "date"),
      ]
      wanted.append("(t.license_id, t.meter, t.period_start) > (\(key.joined(separator: ", ")))")
    }
    self.wanted = wanted
    self.parameters = parameters
  }

  // MARK: Parts

  private var mayBeOpen: Bool { filter.status != .closed }
  private var mayBeClosed: Bool { filter.status == nil || filter.status == .closed }

  private static func all(_ conditions: [String]) -> String {
    conditions.isEmpty ? "true" : conditions.joined(separator: " and ")
  }

  private var customersLicenses: String? {
    customer.map { "select l.license_id from license l where l.customer_id = \($0)" }
  }

  /// Conditions on a row that is not closed.
  private var openOfAny: [String] {
    let end = "t.period_end::timestamp at time zone 'UTC' + \(grace)"
    var conditions = wanted
    if filter.status == .due { conditions.append("\(end) <= now()") }
    if filter.status == .open { conditions.append("\(end) > now()") }
    return conditions + [
      """
      not exists (
        select from license_closing c where c.license_id = t.license_id
          and t.period_start < c.closed_through)
      """,
      """
      not exists (
        select from usage_period_closed x where x.license_id = t.license_id and x.meter = t.meter
          and x.period_start = t.period_start)
      """,
    ]
  }

  /// The same for a license of the customer.
  private var open: String {
    Self.all(openOfAny + (customersLicenses.map { ["t.license_id in (\($0))"] } ?? []))
  }

  /// The same, found through the customer's licenses and not by a walk over all licenses.
  private var openByIndex: String {
    Self.all(openOfAny + (customersLicenses.map { ["t.license_id = any (array(\($0)))"] } ?? []))
  }

  /// The keys of a page. Each source gives its first rows by its index, and the first rows of all
  /// sources are taken.
  private func page(_ openSources: [String]) -> String {
    var sources = mayBeOpen ? openSources : []
    if mayBeClosed {
      let ofCustomer = customer.map { ["t.customer_id = \($0)"] } ?? []
      sources.append(source("usage_period_closed t", Self.all(wanted + ofCustomer)))
    }
    if mayBeOpen {
      sources.append(source("periods_open_adjusted('infinity', \(customer ?? "null")) t", open))
    }
    return """
      page as materialized (
        select license_id, meter, period_start, min(period_end) as period_end
        from (\(sources.joined(separator: " union all "))) u
        group by 1, 2, 3 order by 1, 2, 3 limit \(limit))
      """
  }

  /// Results of functions have the database's collation, which must not decide what comes first.
  private func source(_ table: String, _ condition: String) -> String {
    """
    (select t.license_id collate "C" as license_id, t.meter collate "C" as meter, t.period_start,
        t.period_end
      from \(table) where \(condition) order by 1, 2, 3 limit \(limit))
    """
  }

  // MARK: Statements

  var byTotals: String {
    """
    with of_totals as materialized (
      \(source("usage_license_period t", openByIndex))
    ), page_end as materialized (
      select max(license_id collate "C") as license_id from of_totals having count(*) >= \(limit)
    ), unfolded as materialized (
      \(unfolded)
    ), \(page(["(select * from of_totals)", source("unfolded t", open)])),
    used as (
      select p.*, coalesce(t.quantity, 0) + coalesce(w.quantity, 0) as quantity,
        coalesce(t.event_count, 0) + coalesce(w.event_count, 0) as event_count
      from page p
      left join usage_license_period t using (license_id, meter, period_start)
      left join unfolded w using (license_id, meter, period_start)
    ) \(shown)
    """
  }

  /// What is not in the totals yet, by period. For a license or a customer, the few rows are found
  /// first and the periods of each day are looked up. For everybody, the intervals of all licenses
  /// are computed once, and licenses behind the last one of a full page are left out.
  private var unfolded: String {
    let ofLicense = license.map { ["w.license_id = \($0)"] } ?? []
    guard license == nil && customer == nil else {
      let rows = customer.map { "usage_unfolded_of(array[\($0)])" } ?? "usage_unfolded"
      return """
        select d.license_id, d.meter, p.first_day as period_start, p.end_day as period_end,
          sum(d.quantity) as quantity, sum(d.event_count) as event_count
        from (
          select w.license_id, w.meter, w.day, sum(w.quantity) as quantity,
            sum(w.event_count) as event_count
          from \(rows) w where \(Self.all(ofLicense)) group by 1, 2, 3
        ) d, period_of(d.license_id, d.day) p
        group by 1, 2, 3, 4
        """
    }
    var ofPage = [
      """
      (not exists (select from page_end)
        or w.license_id <= (select e.license_id from page_end e))
      """
    ]
    // A day of a period that is due lies before the grace.
    if filter.status == .due {
      ofPage.append("w.day <= ((now() - \(grace)) at time zone 'UTC')::date")
    }
    return """
      select w.license_id, w.meter,
        greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
        least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
        sum(w.quantity) as quantity, sum(w.event_count) as event_count
      from (
        select w.license_id, w.meter, w.day, sum(w.quantity) as quantity,
          sum(w.event_count) as event_count
        from usage_unfolded w
        where \(Self.all(ofPage)) group by 1, 2, 3) w
      left join billing_interval b on b.license_id = w.license_id
        and b.effective_from <= w.day and (w.day < b.until or b.until is null)
      group by 1, 2, 3, 4
      """
  }

  /// The statement for the time in which the totals of older days are made.
  var byDays: String {
    let ofLicense = license.map { ["v.license_id = \($0)"] } ?? []
    return """
      with sums as materialized (
        select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date as period_start,
          (v.period_end at time zone 'UTC')::date as period_end, v.quantity, v.event_count
        from usage_by_period v
        where \(Self.all(["v.closed_at is null"] + ofLicense))
      ), \(page([source("sums t", open)])),
      used as (
        select p.*, coalesce(t.quantity, 0) as quantity, coalesce(t.event_count, 0) as event_count
        from page p left join sums t using (license_id, meter, period_start)
      ) \(shown)
      """
  }

  /// The rows of a page. Closed periods have their frozen numbers.
  private var shown: String {
    """
    select u.license_id, u.meter,
      (extract(epoch from u.period_start) * 1000)::bigint,
      (extract(epoch from u.period_end) * 1000)::bigint,
      coalesce(x.quantity, u.quantity)::bigint, coalesce(x.event_count, u.event_count)::bigint,
      floor(extract(epoch from x.closed_at) * 1000)::bigint, x.included, x.overage,
      case when x.close_id is null then l.customer_id else x.customer_id end,
      case when x.close_id is not null then 'closed'
        when u.period_end::timestamp at time zone 'UTC' + \(grace) <= now()
        then 'due' else 'open' end,
      coalesce(a.quantity, 0) + coalesce(p.quantity, 0),
      coalesce(a.event_count, 0) + coalesce(p.event_count, 0)
    from used u
    left join usage_period_closed x using (license_id, meter, period_start)
    left join license l using (license_id)
    left join usage_late a using (license_id, meter, period_start)
    left join (
      select * from usage_late_pending w where \(Self.all(license.map { ["w.license_id = \($0)"] } ?? []))
    ) p using (license_id, meter, period_start)
    order by 1, 2, 3
    """
  }
}
