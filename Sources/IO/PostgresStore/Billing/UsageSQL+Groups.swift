extension UsageSQL {
  /// Columns: a meter, and the number of all meters that were used. The meters with the most events
  /// come first. Quantities of two meters cannot be compared, because calls are no bytes.
  mutating func busiestMeters(_ most: Int) -> String {
    var parts: [String] = []
    if isWanted { parts.append("wanted as materialized (\(wanted()))") }
    parts.append("current_rows as (\(grouped(facts(question.windows))))")
    return """
      with \(parts.joined(separator: ", "))
      select meter, count(*) over () from current_rows group by meter having sum(quantity) <> 0
      order by sum(event_count) desc, meter collate "C" limit \(add(.int(most), "int"))
      """
  }

  /// The largest groups, with all others combined into one. If rows are by meter, the others are
  /// combined for each meter, because calls and bytes cannot be added.
  mutating func ranked(_ top: Int) -> [String] {
    let limit = add(.int(top), "int")
    let keys = keyColumns
    let marked = keys.first { $0 != "meter" } ?? "meter"
    func shown(_ column: String) -> String {
      // `(other)` combines licenses of several customers, so it has no customer.
      let other = column == marked ? "'\(Self.other)'" : column == "meter" ? "c.meter" : "null"
      return "case when r.place <= \(limit) then c.\(column) else \(other) end as \(column)"
    }
    let columns = ["license_id", "customer_id", "meter", "value"].map(shown)
    let group = keys.joined(separator: ", ")
    return [
      """
      ranks as (
        select \(group), row_number() over (order by sum(quantity) desc, \(group)) as place
        from compared group by \(group))
      """,
      """
      topped as (
        select \(Self.keys), place, sum(quantity) as quantity, sum(event_count) as event_count,
          sum(previous) as previous
        from (
          select \(columns.joined(separator: ", ")), c.w, c.we, c.quantity, c.event_count, c.previous,
            least(r.place, \(limit) + 1) as place
          from compared c join ranks r on \(keys.map { "r.\($0) = c.\($0)" }.joined(separator: " and "))
        ) t group by \(Self.keys), place)
      """,
    ]
  }

  /// Every group with every window.
  ///
  /// - Parameters: those of the statement. Only the windows of the groups that the page needs are
  ///   made, so that a page stays cheap however many windows the whole answer has.
  mutating func filled(_ source: String, after: UsageStore.Key?, limit: Int?) -> [String] {
    guard case .bounds(let runs) = question.windows else {
      return ["filled as (select * from \(source))"]
    }
    var groups = "select distinct license_id, customer_id, meter, value, place from \(source)"
    if let named = namedGroups(source) { groups += " union " + named }
    if question.top == nil {
      groups = page(groups, windows: runs.bounds.count - 1, after: after, limit: limit)
    }
    let count = add(.int(runs.bounds.count - 1), "bigint")
    // Zeros are added up and not joined: a join compared every window with every row, because
    // PostgreSQL expects few rows. Rows of groups beyond the page sort after it.
    return [
      "groups as (\(groups))",
      """
      filled as (
        select \(Self.keys), place, sum(quantity) as quantity, sum(event_count) as event_count,
          sum(previous) as previous
        from (
          select \(Self.keys), place, quantity, event_count, previous from \(source)
          union all
          select g.license_id, g.customer_id, g.meter, g.value, i.w, 0, g.place, 0, 0, 0
          from groups g cross join generate_series(0, \(count) - 1) i(w)
        ) u group by \(Self.keys), place)
      """,
    ]
  }

  /// The groups that the question names. They are shown even if they have no usage. Nil if the
  /// question names none.
  private mutating func namedGroups(_ source: String) -> String? {
    guard question.dimension == nil, question.top == nil else { return nil }
    let isByOwner = question.byLicense || question.byCustomer
    guard isWanted || (!isByOwner && !question.meters.isEmpty) else { return nil }
    let owners: String
    if question.byLicense {
      owners = "select license_id, customer_id from wanted"
    } else if !question.byCustomer {
      owners = "select null::text as license_id, null::text as customer_id"
    } else if question.licenses.isEmpty {
      // A customer without licenses is named too.
      let customers = add(.identifiers(question.customers), "text[]")
      owners =
        "select null::text as license_id, customer_id from unnest(\(customers)) u(customer_id)"
    } else {
      owners = "select distinct null::text as license_id, customer_id from wanted"
    }
    guard question.byMeter else {
      return "select f.license_id, f.customer_id, null, null, 0 from (\(owners)) f"
    }
    if !question.meters.isEmpty {
      let meters = add(.identifiers(question.meters), "text[]")
      return """
        select f.license_id, f.customer_id, m, null, 0 from (\(owners)) f, unnest(\(meters)) m
        """
    }
    // If the question names no meter, an owner without usage is shown with the default meter.
    let conditions = keyColumns.filter { $0 != "meter" }.map { "s.\($0) = f.\($0)" }
    let same = conditions.isEmpty ? "true" : conditions.joined(separator: " and ")
    return """
      select f.license_id, f.customer_id, 'api_calls', null, 0 from (\(owners)) f
      where not exists (select from \(source) s where \(same))
      """
  }

  /// The groups of which a page shows windows.
  private mutating func page(
    _ groups: String, windows: Int, after: UsageStore.Key?, limit: Int?
  ) -> String {
    if keyColumns.isEmpty { return groups }
    let keys = keyColumns.map { "\($0) collate \"C\"" }.joined(separator: ", ")
    var text = "select * from (\(groups)) g"
    if let after, after.group.count == keyColumns.count {
      let values = after.group.map { add(.text($0), "text") }.joined(separator: ", ")
      text += " where (\(keys)) >= (\(values))"
    }
    text += " order by \(keys)"
    // The page before may have shown all windows of the first group.
    if let limit { text += " limit \((limit - 1) / max(windows, 1) + 2)" }
    return text
  }
}
