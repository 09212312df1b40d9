import Metering

/// Writes the statement for a question. All texts and numbers from outside are parameters.
struct UsageSQL {
  private(set) var parameters: [SQLValue] = []
  let question: UsageStore.Question
  let totals: UsageStore.Totals
  let namesFew: Bool

  /// - Parameter namesFew: whether the question names few licenses, or customers with few licenses.
  ///   Those are read in one walk over the table.
  init(_ question: UsageStore.Question, _ totals: UsageStore.Totals, namesFew: Bool) {
    self.question = question
    self.totals = totals
    self.namesFew = namesFew
  }

  /// The name of the group that combines the rows after the largest groups.
  static let other = "(other)"

  mutating func add(_ value: SQLValue, _ type: String) -> String {
    parameters.append(value)
    return "$\(parameters.count)::\(type)"
  }

  /// Whether one plan fits all questions of this shape. An index finds the rows of a few licenses,
  /// and the months are chosen when the statement runs. Domains and features are chosen by
  /// constraints, which needs a plan for the actual parameters.
  var plansOnce: Bool {
    isWanted && namesFew && question.dimension == nil && !question.mayReadTotals
  }

  // MARK: The statement

  /// Columns: license_id, customer_id, meter, value, w, we, quantity, event_count, previous.
  mutating func statement(after: UsageStore.Key?, limit: Int?) -> String {
    var parts: [String] = []
    if isWanted { parts.append("wanted as materialized (\(wanted()))") }
    parts.append("current_rows as (\(grouped(facts(question.windows))))")
    var source = "compared"
    if let previous = question.previous {
      parts.append("previous_rows as (\(grouped(facts(.bounds(previous)))))")
      parts.append("compared as (\(Self.compared))")
    } else {
      parts.append(
        "compared as (select *, 0::numeric as previous, 0::bigint as place from current_rows)")
    }
    if let top = question.top {
      parts.append(contentsOf: ranked(top))
      source = "topped"
    }
    if question.fillsWindows {
      parts.append(contentsOf: filled(source, after: after, limit: limit))
      source = "filled"
    }
    var text = "with " + parts.joined(separator: ", ")
    text +=
      " select license_id, customer_id, meter, value, w, we, quantity::bigint, event_count::bigint,"
    text += " previous::bigint from \(source)"
    text += keyset(after)
    let order = question.top == nil ? keyColumns.map { "\($0) collate \"C\"" } : ["place", "meter"]
    text += " order by " + (order + ["w"]).joined(separator: ", ")
    // The limit is in the text, because a plan for any limit would expect to return a tenth of the
    // rows.
    if let limit { text += " limit \(limit)" }
    return text
  }

  /// The columns that identify a group.
  var keyColumns: [String] {
    if question.dimension != nil { return ["value"] }
    var columns: [String] = []
    if question.byLicense {
      columns.append("license_id")
    } else if question.byCustomer {
      columns.append("customer_id")
    }
    if question.byMeter { columns.append("meter") }
    return columns
  }

  private mutating func keyset(_ after: UsageStore.Key?) -> String {
    guard let after, after.group.count == keyColumns.count else { return "" }
    let left = keyColumns.map { "\($0) collate \"C\"" } + ["w"]
    let right = after.group.map { add(.text($0), "text") } + [add(.integer(after.window), "bigint")]
    return " where (\(left.joined(separator: ", "))) > (\(right.joined(separator: ", ")))"
  }

  mutating func grouped(_ facts: String) -> String {
    let license = question.byLicense && question.dimension == nil
    let customer = (question.byCustomer || question.byLicense) && question.dimension == nil
    let columns = [
      license ? "license_id" : "null::text as license_id",
      customer ? "customer_id" : "null::text as customer_id",
      question.byMeter && question.dimension == nil ? "meter" : "null::text as meter",
      question.dimension != nil ? "value" : "null::text as value",
    ]
    // The grouping begins with the columns that order the answer, so that rows are sorted once.
    let first = keyColumns.compactMap(Self.groupColumns.firstIndex(of:)) + [4, 5]
    let order = (first + (0..<6).filter { !first.contains($0) }).map { String($0 + 1) }
    // What moved to another customer leaves rows of 0.
    return """
      select \(columns.joined(separator: ", ")), w, we, sum(quantity) as quantity,
        sum(event_count) as event_count
      from (\(facts)) f group by \(order.joined(separator: ", "))
      having sum(event_count) <> 0 or sum(quantity) <> 0
      """
  }

  private static let groupColumns = ["license_id", "customer_id", "meter", "value", "w", "we"]
  static let keys = groupColumns.joined(separator: ", ")

  private static let compared = """
    select \(keys), sum(quantity) as quantity, sum(event_count) as event_count,
      sum(previous) as previous, 0::bigint as place
    from (
      select \(keys), quantity, event_count, 0::numeric as previous from current_rows
      union all
      select \(keys), 0, 0, quantity from previous_rows
    ) u group by \(keys)
    """

  // MARK: Facts

  /// Whether the question names licenses or customers.
  var isWanted: Bool { !question.licenses.isEmpty || !question.customers.isEmpty }

  mutating func wanted() -> String {
    if question.licenses.isEmpty {
      let customers = add(.identifiers(question.customers), "text[]")
      return "select license_id, customer_id from license where customer_id = any (\(customers))"
    }
    let licenses = add(.identifiers(question.licenses), "text[]")
    var text = """
      select distinct u.license_id collate "C" as license_id, coalesce(l.customer_id, '') as customer_id
      from unnest(\(licenses)) u(license_id) left join license l on l.license_id = u.license_id
      """
    if !question.customers.isEmpty {
      text += " where l.customer_id = any (\(add(.identifiers(question.customers), "text[]")))"
    }
    return text
  }

  /// Columns: license_id, customer_id, meter, value, w, we, quantity, event_count.
  mutating func facts(_ windows: UsageStore.Windows) -> String {
    if let dimension = question.dimension { return dimensions(dimension, windows) }
    switch windows {
    case .bounds(let runs):
      return """
        select license_id, customer_id, meter, null::text as value, \(window(runs.bounds)) as w, 0::bigint as we,
          quantity, event_count from (\(rows(runs, usesTotals: true))) r
        """
    case .periods(let runs):
      return """
        select r.license_id, r.customer_id, r.meter, null::text as value,
          p.first_day - date '1970-01-01' as w, p.end_day - date '1970-01-01' as we, r.quantity, r.event_count
        from (\(rows(runs, usesTotals: false))) r, period_of(r.license_id, date '1970-01-01' + (r.at / 86400)::int) p
        """
    case .currentPeriod(let day): return period(day, isLast: false)
    case .lastPeriod(let day): return period(day, isLast: true)
    }
  }

  /// The number of the window that `at` lies in.
  private mutating func window(_ bounds: [Int64]) -> String {
    if bounds.count <= 2 { return "0::bigint" }
    if let length = Self.length(bounds) {
      return "at / \(length) - \(add(.integer(bounds[0] / length), "bigint"))"
    }
    return "width_bucket(at, \(add(.integers(bounds), "bigint[]")))::bigint - 1"
  }

  /// The length of the windows in seconds, if all bounds except the ends are multiples of it.
  static func length(_ bounds: [Int64]) -> Int64? {
    guard bounds.count > 3, bounds[0] >= 0 else { return nil }
    let length = bounds[2] - bounds[1]
    let inner = bounds.dropFirst().dropLast()
    guard length > 0, bounds[1] % length == 0,
      zip(inner, inner.dropFirst()).allSatisfy({ $1 - $0 == length }),
      (1...length).contains(bounds[1] - bounds[0]),
      (1...length).contains(bounds[bounds.count - 1] - bounds[bounds.count - 2])
    else { return nil }
    return length
  }

  private mutating func period(_ day: Int64, isLast: Bool) -> String {
    let today = "(date '1970-01-01' + \(add(.integer(day), "int")))"
    let bounds = "p.first_day - date '1970-01-01' as w, p.end_day - date '1970-01-01' as we"
    let meters = meterCondition("u.meter")
    guard isWanted else {
      let period =
        isLast
        ? "u.period_end = (select first_day from period_of(u.license_id, \(today)))"
        : "u.period_start <= \(today)"
      let ends =
        isLast
        ? "u.period_end <= \(today) and u.period_end > \(today) - 62"
        : "u.period_end > \(today) and u.period_end <= \(today) + 31"
      let source =
        totals.hasDays
        ? "usage_total_by_period"
        : """
        (select license_id, meter, period_start::date as period_start, period_end::date as period_end,
          quantity, event_count from usage_by_period)
        """
      return """
        select u.license_id, coalesce(l.customer_id, '') as customer_id, u.meter, null::text as value,
          u.period_start - date '1970-01-01' as w, u.period_end - date '1970-01-01' as we, u.quantity, u.event_count
        from \(source) u left join license l on l.license_id = u.license_id
        where \(ends) and \(period)\(meters)
        """
    }
    let of =
      isLast
      ? "period_of(f.license_id, \(today)) n, period_of(f.license_id, n.first_day - 1) p"
      : "period_of(f.license_id, \(today)) p"
    func part(_ table: String, _ condition: String) -> String {
      """
      select f.license_id, f.customer_id, u.meter, null::text as value, \(bounds), u.quantity, u.event_count
      from wanted f, \(of), lateral (
        select u.meter, u.quantity, u.event_count from \(table) u
        where u.license_id = f.license_id and \(condition)\(meters) offset 0) u
      """
    }
    var tables = [part("usage_day", "u.day >= p.first_day and u.day < p.end_day")]
    if question.licenses.isEmpty {
      tables.append(
        part(
          "usage_appended",
          """
          u.hour >= p.first_day::timestamp at time zone 'UTC'
            and u.hour < p.end_day::timestamp at time zone 'UTC'
          """))
    }
    tables.append(
      """
      select f.license_id, f.customer_id, u.meter, null::text, \(bounds), u.quantity, u.event_count
      from (select license_id, meter, (hour at time zone 'UTC')::date as day, quantity, event_count
        from \(unmergedOfWanted()) w) u join wanted f on f.license_id = u.license_id, \(of)
      where u.day >= p.first_day and u.day < p.end_day\(meters)
      """)
    return tables.joined(separator: " union all ")
  }

  private mutating func dimensions(
    _ dimension: UsageStore.Dimension, _ windows: UsageStore.Windows
  ) -> String {
    let name = add(.text(dimension.rawValue), "text")
    let meters = meterCondition("u.meter")
    let at = "extract(epoch from u.bucket_start)::bigint"
    var (limits, window) = ("true", "0::bigint as w, 0::bigint as we")
    switch windows {
    case .bounds(let runs):
      limits = between(runs)
      if runs.bounds.count > 2 {
        window =
          "width_bucket(\(at), \(add(.integers(runs.bounds), "bigint[]")))::bigint - 1 as w, 0::bigint as we"
      }
    case .periods(let runs): limits = between(runs)
    case .currentPeriod, .lastPeriod: limits = "false"
    }
    let source =
      isWanted
      ? """
      wanted f, lateral (select * from usage_by_dimension_day u where u.license_id = f.license_id
        and \(limits)\(meters) offset 0) u
      """
      : "(select * from usage_by_dimension_day u where \(limits)\(meters)) u"
    return """
      select null::text as license_id, null::text as customer_id, null::text as meter, u.value, \(window),
        u.quantity, u.event_count from \(source) where u.dimension = \(name)
      """
  }

  private mutating func between(_ runs: UsageStore.Runs) -> String {
    let low = add(.integer(runs.bounds.first ?? 0), "bigint")
    let high = add(.integer(runs.bounds.last ?? 0), "bigint")
    return "u.bucket_start >= to_timestamp(\(low)) and u.bucket_start < to_timestamp(\(high))"
  }

  // MARK: Rows

  static func row(_ row: SQLRow) -> UsageStore.Row {
    func text(_ i: Int) -> String? {
      let text = row.text(i)
      return text?.isEmpty == true ? nil : text
    }
    func number(_ i: Int) -> Int64 { row.integer(i) ?? 0 }
    return UsageStore.Row(
      license: text(0), customer: text(1), meter: text(2), value: row.text(3), window: number(4),
      periodEnd: number(5), quantity: number(6), eventCount: number(7), previous: number(8))
  }
}
