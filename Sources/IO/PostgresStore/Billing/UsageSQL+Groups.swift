extension UsageSQL {
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
  mutating func filled(_ source: String) -> [String] {
    var groups = "select distinct license_id, customer_id, meter, value, place from \(source)"
    let meters: String
    if question.byMeter {
      meters =
        question.meters.isEmpty
        ? "array['api_calls']" : add(.identifiers(question.meters), "text[]")
    } else {
      meters = "array[null::text]"
    }
    // If the question names no meter, a license without usage is shown with the default meter.
    let isMissing = question.meters.isEmpty
    if question.dimension == nil, question.top == nil, !question.licenses.isEmpty,
      question.byLicense
    {
      groups += """
         union select f.license_id, f.customer_id, m, null, 0 from wanted f, unnest(\(meters)) m
        where not \(isMissing) or not exists (
          select from \(source) s where s.license_id = f.license_id)
        """
    }
    guard case .bounds(let runs) = question.windows else {
      return ["filled as (select * from \(source))"]
    }
    let count = add(.int(runs.bounds.count - 1), "bigint")
    // `(other)` is a separate group, so the grouping columns identify every group.
    let same = keyColumns.map { " and s.\($0) = g.\($0)" }.joined()
    return [
      "groups as (\(groups))",
      """
      filled as (
        select g.license_id, g.customer_id, g.meter, g.value, g.place, i.w, 0::bigint as we,
          coalesce(s.quantity, 0) as quantity, coalesce(s.event_count, 0) as event_count,
          coalesce(s.previous, 0) as previous
        from groups g cross join generate_series(0, \(count) - 1) i(w)
        left join \(source) s on s.w = i.w\(same))
      """,
    ]
  }
}
