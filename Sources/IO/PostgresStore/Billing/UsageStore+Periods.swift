extension UsageStore {
  /// The billing periods that the question's licenses are in, as half-open ranges of days since
  /// 1970. At most two different ones are returned, so that a caller knows whether all licenses
  /// share one.
  ///
  /// If the question names neither licenses nor customers, licenses that nobody registered belong
  /// to it too. Their periods are calendar months, and so is the period of a customer without
  /// licenses.
  ///
  /// - Returns: nothing if the question has windows other than `currentPeriod` and `lastPeriod`.
  /// - Complexity: it looks up a period for each different list of anchors, not for each license.
  package func periods(_ question: Question) throws(PostgresError) -> [Range<Int64>] {
    var sql = UsageSQL(question, .none, namesFew: true)
    let text: String
    switch question.windows {
    case .currentPeriod(let day): text = sql.sharedPeriods(day, isLast: false)
    case .lastPeriod(let day): text = sql.sharedPeriods(day, isLast: true)
    case .bounds, .periods: return []
    }
    return try connection.query(text, sql.parameters, operation: "read the billing periods") {
      row in (row.integer(0) ?? 0)..<(row.integer(1) ?? 0)
    }
  }
}

extension UsageSQL {
  /// Columns: the first day of a period and the day after its last one.
  fileprivate mutating func sharedPeriods(_ day: Int64, isLast: Bool) -> String {
    let licenses =
      isWanted
      ? wanted() : "select '' as license_id union select license_id from license_billing_anchor"
    let today = "(date '1970-01-01' + \(add(.integer(day), "int")))"
    let period =
      isLast
      ? "period_of(f.license_id, \(today)) n, period_of(f.license_id, n.first_day - 1) p"
      : "period_of(f.license_id, \(today)) p"
    return """
      with wanted as materialized (\(licenses)),
      histories as (
        select w.license_id,
          string_agg(a.effective_from || ' ' || a.anchor_day, ',' order by a.effective_from)
            as history
        from wanted w left join license_billing_anchor a on a.license_id = w.license_id
        group by w.license_id
      )
      select distinct p.first_day - date '1970-01-01' as first_day,
        p.end_day - date '1970-01-01' as end_day
      from (select min(license_id) as license_id from histories group by history
        union all select '' where not exists (select from wanted)) f, \(period)
      order by 1, 2 limit 2
      """
  }
}
