/// The rows of the tables that a question needs.
extension UsageSQL {
  /// Columns: license_id, customer_id, meter, at (seconds since 1970), quantity, event_count.
  mutating func rows(_ runs: UsageStore.Runs, usesTotals: Bool) -> String {
    var parts: [String] = []
    // For whole days there are few rows of meters by hour, but many rows of customers by day.
    let wholeHours = Self.joined(
      runs.days.map { $0.lowerBound * 86_400..<$0.upperBound * 86_400 } + runs.hours)
    if usesTotals, hasMeterHours(wholeHours) {
      parts.append(meterHours(wholeHours))
    } else {
      if !runs.days.isEmpty {
        let isByCustomer =
          usesTotals && totals.hasDays && !question.byLicense && question.licenses.isEmpty
        parts.append(isByCustomer ? customerDays(runs.days) : days(runs.days))
      }
      if !runs.hours.isEmpty {
        let isByMeter = usesTotals && hasMeterHours(runs.hours)
        parts.append(isByMeter ? meterHours(runs.hours) : hours(runs.hours))
      }
    }
    if !runs.minutes.isEmpty { parts.append(minutes(runs.minutes)) }
    if parts.isEmpty {
      return """
        select null::text as license_id, null::text as customer_id, null::text as meter, 0::bigint as at,
          0::bigint as quantity, 0::bigint as event_count where false
        """
    }
    return parts.joined(separator: " union all ")
  }

  /// Sorts runs and joins those that touch each other.
  static func joined(_ runs: [Range<Int64>]) -> [Range<Int64>] {
    var joined: [Range<Int64>] = []
    for run in runs.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = joined.last, run.lowerBound <= last.upperBound {
        joined[joined.count - 1] = last.lowerBound..<max(last.upperBound, run.upperBound)
      } else {
        joined.append(run)
      }
    }
    return joined
  }

  /// The SQL for where rows lie, with the bounds and, if there are several runs, a list of them.
  struct Spans {
    var low: String
    var high: String
    /// An item of a FROM that lists the runs. Nil if there is only one run. Then the planner knows
    /// its bounds and leaves out the partitions of other months.
    var list: String?

    /// The list in front of a lateral item of a FROM.
    var leading: String { list.map { $0 + ", " } ?? "" }
    /// The list after another item of a FROM.
    var trailing: String { list.map { ", " + $0 } ?? "" }
    func holds(_ column: String) -> String { "\(column) >= \(low) and \(column) < \(high)" }
  }

  /// One or two runs are read separately. Only ranges in unusual time zones have more.
  private mutating func spans(_ runs: [Range<Int64>], _ bound: (String) -> String) -> [Spans] {
    if runs.count <= 2 {
      return runs.map { run in
        Spans(
          low: "(\(bound(add(.integer(run.lowerBound), "bigint"))))",
          high: "(\(bound(add(.integer(run.upperBound), "bigint"))))")
      }
    }
    let low = add(.integers(runs.map(\.lowerBound)), "bigint[]")
    let high = add(.integers(runs.map(\.upperBound)), "bigint[]")
    let list =
      "(select \(bound("a")) as lo, \(bound("b")) as hi from unnest(\(low), \(high)) u(a, b)) r"
    return [Spans(low: "r.lo", high: "r.hi", list: list)]
  }

  private static func all(_ spans: [Spans], _ part: (Spans) -> String) -> String {
    spans.map(part).joined(separator: " union all ")
  }

  mutating func meterCondition(_ column: String) -> String {
    if question.meters.isEmpty { return "" }
    return " and \(column) = any (\(add(.identifiers(question.meters), "text[]")))"
  }

  private static func date(_ name: String) -> String { "date '1970-01-01' + \(name)::int" }
  private static func time(_ name: String) -> String { "to_timestamp(\(name))" }
  // This does not use extract(), whose decimal numbers take as long as the rest of a row.
  private static let dayStart = "(u.day - date '1970-01-01')::bigint * 86400"
  private static let hourStart = "date_part('epoch', u.hour)::bigint"
  private static let pendingDay = "(u.hour at time zone 'UTC')::date"

  /// The rows that no merge has taken of the wanted licenses. If licenses are named, these are all
  /// waiting rows.
  ///
  /// A license that is named is looked for in each row of large flushes. The licenses of customers
  /// are put into a hash table first: PostgreSQL would put the rows into it instead. `coalesce`
  /// keeps it from making a join of this. Rows of small flushes have an index by license.
  mutating func unmergedOfWanted() -> String {
    if !question.licenses.isEmpty {
      return "usage_waiting_of(\(add(.identifiers(question.licenses), "text[]")))"
    }
    let columns =
      "u.license_id, u.meter, u.hour, u.quantity, u.event_count, u.minutes, u.dimensions"
    return """
      (select \(columns) from usage_unmerged_large u
        where coalesce(u.license_id in (select license_id from wanted), false)
      union all
      select \(columns) from wanted f, lateral (
        select * from usage_pending_recent u where u.license_id = f.license_id offset 0) u)
      """
  }

  /// Reads a table by license and its pending rows. `merged` and `pending` are their conditions on
  /// `u`.
  private mutating func union(
    _ spans: Spans, _ columns: String, merged: (table: String, at: String, condition: String),
    pending: (at: String, condition: String)
  ) -> String {
    func part(_ table: String, _ at: String, _ condition: String) -> String {
      let body = "select u.license_id, \(at) as at, \(columns) from \(table) u where \(condition)"
      guard isWanted else {
        return """
          select u.license_id, coalesce(l.customer_id, '') as customer_id, u.meter, u.at, u.quantity,
            u.event_count
          from \(spans.leading)lateral (\(body) offset 0) u
          left join license l on l.license_id = u.license_id
          """
      }
      let read = "select f.license_id, f.customer_id, u.meter, u.at, u.quantity, u.event_count"
      if namesFew {
        // One walk finds the blocks of all licenses, so that PostgreSQL asks the disk for many at
        // the same time. A first read of 2,600 rows took 70 ms in place of 370 ms.
        return """
          \(read) from \(spans.leading)lateral (
            \(body) and u.license_id = any (array(select license_id from wanted)) offset 0) u
          join wanted f on f.license_id = u.license_id
          """
      }
      return """
        \(read) from wanted f, \(spans.leading)lateral (
          \(body) and u.license_id = f.license_id offset 0) u
        """
    }
    guard isWanted else {
      return part(merged.table, merged.at, merged.condition) + " union all "
        + part("usage_waiting", pending.at, pending.condition)
    }
    var tables = [part(merged.table, merged.at, merged.condition)]
    if question.licenses.isEmpty {
      tables.append(part("usage_appended", pending.at, pending.condition))
    }
    tables.append(
      """
      select f.license_id, f.customer_id, u.meter, u.at, u.quantity, u.event_count
      from (
        select u.license_id, u.hour, \(pending.at) as at, \(columns) from \(unmergedOfWanted()) u) u
      join wanted f on f.license_id = u.license_id\(spans.trailing) where \(pending.condition)
      """)
    return tables.joined(separator: " union all ")
  }

  private mutating func days(_ days: [Range<Int64>]) -> String {
    let spans = spans(days, Self.date)
    let meters = meterCondition("u.meter")
    return Self.all(spans) { span in
      union(
        span, "u.meter, u.quantity, u.event_count",
        merged: ("usage_day", Self.dayStart, span.holds("u.day") + meters),
        pending: (
          "(\(Self.pendingDay) - date '1970-01-01')::bigint * 86400",
          span.holds(Self.pendingDay) + meters
        ))
    }
  }

  private mutating func hours(_ hours: [Range<Int64>]) -> String {
    let spans = spans(hours, Self.time)
    let meters = meterCondition("u.meter")
    return Self.all(spans) { span in
      let condition = span.holds("u.hour") + meters
      return union(
        span, "u.meter, u.quantity, u.event_count",
        merged: ("usage_hour", Self.hourStart, condition),
        pending: (Self.hourStart, condition))
    }
  }

  /// Whether the question names no license and no customer, and the hours of meters reach back to
  /// the first hour.
  private func hasMeterHours(_ hours: [Range<Int64>]) -> Bool {
    guard let from = totals.meterHoursFrom, let first = hours.map(\.lowerBound).min() else {
      return false
    }
    return !question.byLicense && !question.byCustomer && !isWanted && first >= from
  }

  /// The hours of meters, with the rows that are not folded in yet.
  private mutating func meterHours(_ hours: [Range<Int64>]) -> String {
    let spans = spans(hours, Self.time)
    let meters = meterCondition("u.meter")
    func part(_ table: String, _ columns: String, _ condition: String, _ span: Spans) -> String {
      """
      select null::text as license_id, null::text as customer_id, u.meter, u.at, u.quantity,
        u.event_count
      from \(span.leading)lateral (
        select u.meter, \(Self.hourStart) as at, \(columns) from \(table) u
        where \(condition) offset 0) u
      """
    }
    return Self.all(spans) { span in
      let condition = span.holds("u.hour") + meters
      let merged = ["usage_meter_hour", "usage_meter_hour_delta"].map {
        part($0, "u.quantity, u.event_count", condition, span)
      }
      // Most of many waiting rows are of one hour. PostgreSQL expects few rows in a range of hours,
      // and `coalesce` keeps it from sorting all of them.
      let waiting = part(
        "usage_unmerged", "sum(u.quantity) as quantity, sum(u.event_count) as event_count",
        "coalesce(\(span.holds("u.hour")), false)\(meters) group by u.meter, u.hour", span)
      return (merged + [waiting]).joined(separator: " union all ")
    }
  }

  private mutating func minutes(_ minutes: [Range<Int64>]) -> String {
    let spans = spans(minutes, Self.time)
    let meters = meterCondition("u.meter")
    let rows = Self.all(spans) { span in
      let condition =
        "u.hour > \(span.low) - interval '1 hour' and u.hour < \(span.high)\(meters)"
      return union(
        span, "u.meter, u.minutes as quantity, 0::bigint as event_count",
        merged: ("usage_hour", Self.hourStart, condition), pending: (Self.hourStart, condition))
    }
    // An hour lies in at most one run, so no minute is taken twice.
    let low = add(.integers(minutes.map(\.lowerBound)), "bigint[]")
    let high = add(.integers(minutes.map(\.upperBound)), "bigint[]")
    return """
      select m.license_id, m.customer_id, m.meter, m.at + (e->>0)::bigint * 60 as at,
        (e->>1)::bigint as quantity, (e->>2)::bigint as event_count
      from (\(rows)) m, json_array_elements(('[' || m.quantity || ']')::json) e
      where exists (select from unnest(\(low), \(high)) x(a, b)
        where m.at + (e->>0)::bigint * 60 >= x.a and m.at + (e->>0)::bigint * 60 < x.b)
      """
  }

  /// The days of customers, with the rows that are not folded in yet.
  private mutating func customerDays(_ days: [Range<Int64>]) -> String {
    let spans = spans(days, Self.date)
    let meters = meterCondition("u.meter")
    guard !question.customers.isEmpty else {
      return Self.all(spans) { span in
        totalDays(span, meters) + " union all " + Self.waitingDays(span, meters)
      }
    }
    let customers = add(.identifiers(question.customers), "text[]")
    return Self.all(spans) { span in
      """
      \(totalDays(span, meters + " and u.customer_id = any (\(customers))"))
      union all
      select null, u.customer_id, u.meter, \(Self.dayStart), u.quantity, u.event_count
      from usage_unfolded_of(\(customers)) u\(span.trailing) where \(span.holds("u.day"))\(meters)
      """
    }
  }

  private func totalDays(_ span: Spans, _ condition: String) -> String {
    """
    select null::text as license_id, u.customer_id, u.meter, \(Self.dayStart) as at, u.quantity, u.event_count
    from usage_customer_day u\(span.trailing) where \(span.holds("u.day"))\(condition)
    """
  }

  /// The rows of all licenses that are not folded in yet. They are added up before their customers
  /// are looked up. `coalesce` keeps PostgreSQL from expecting hardly any rows between two days: it
  /// then looked up each of 200,000 rows by itself.
  private static func waitingDays(_ span: Spans, _ meters: String) -> String {
    let (low, high) = (span.low, span.high)
    let ofDays =
      "u.hour >= \(low)::timestamp at time zone 'UTC' and u.hour < \(high)::timestamp at time zone 'UTC'"
    return """
      select null, coalesce(l.customer_id, ''), u.meter, u.at, u.quantity, u.event_count
      from (
        select license_id, meter, at, sum(quantity) as quantity, sum(event_count) as event_count
        from (
          select u.license_id, u.meter, \(dayStart) as at, u.quantity, u.event_count
          from usage_delta u\(span.trailing) where coalesce(\(span.holds("u.day")), false)\(meters)
          union all
          select u.license_id, u.meter, \(hourStart) / 86400 * 86400, u.quantity, u.event_count
          from usage_unmerged u\(span.trailing) where coalesce(\(ofDays), false)\(meters)
        ) w group by 1, 2, 3
      ) u left join license l on l.license_id = u.license_id
      """
  }

  /// The hours whose minutes are partly deleted, so that they do not add up to the hour.
  mutating func brokenHours(_ minutes: [Range<Int64>]) -> String {
    let hours = minutes.map { floor($0.lowerBound)..<floor($0.upperBound + 3_599) }
    let spans = spans(hours, Self.time)
    let meters = meterCondition("u.meter")
    let rows = Self.all(spans) { span in
      let body = """
        select u.license_id, u.quantity, u.event_count, u.minutes from usage_hour u
        where \(span.holds("u.hour"))\(meters)
        """
      let own = isWanted ? " and u.license_id = f.license_id" : ""
      return """
        select u.* from \(isWanted ? "wanted f, " : "")\(span.leading)lateral (\(body)\(own) offset 0) u
        """
    }
    let source = "(\(rows)) u"
    let with = isWanted ? "with wanted as materialized (\(wanted())) " : ""
    return """
      \(with)select 1 from \(source), lateral (
        select coalesce(sum((e->>1)::numeric), 0) as quantity, coalesce(sum((e->>2)::bigint), 0) as events
        from json_array_elements(('[' || u.minutes || ']')::json) e) m
      where m.quantity <> u.quantity or m.events <> u.event_count limit 1
      """
  }

  private func floor(_ second: Int64) -> Int64 {
    let rest = second % 3_600
    return second - (rest < 0 ? rest + 3_600 : rest)
  }
}
