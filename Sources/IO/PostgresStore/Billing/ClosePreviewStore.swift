package import Metering

/// The reasons against a close, the periods that it would close, and warnings.
package struct ClosePreview: Sendable, Equatable {
  package struct Notice: Sendable, Equatable {
    /// A fixed word such as `grace_not_over`.
    package var code: String
    /// A sentence that also says what to do.
    package var detail: String

    package init(_ code: String, _ detail: String) {
      self.code = code
      self.detail = detail
    }
  }

  package struct Meter: Sendable, Equatable {
    package var meter: String
    package var quantity: Int128
    package var overage: Int128
  }

  package var blockers: [Notice] = []
  package var warnings: [Notice] = []
  package var periods: Int64 = 0
  package var byMeter: [Meter] = []
  /// The producers whose events are not all counted yet.
  package var inFlight: [Identifier] = []

  package init() {}

  /// Whether events that are under way are the only reason against the close. That passes within
  /// seconds.
  package var waitsForEventsOnly: Bool {
    !inFlight.isEmpty && blockers.allSatisfy { $0.code == Self.inFlightCode }
  }

  static let inFlightCode = "in_flight"

  package var isReady: Bool { blockers.isEmpty }
}

/// Reads a `ClosePreview` at the snapshot of the caller's transaction.
package struct ClosePreviewStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  package struct Question: Sendable {
    /// A UTC day such as `2026-11-01`. The preview covers periods that end on this day or before it
    /// and that have ended.
    package var endingBefore: String
    package var customer: Identifier?
    package var graceSeconds: Int64
    /// The group and the topic that usage is counted from.
    package var group: String
    package var topic: String
    /// The numbers contain every event that the log had received before this time, in milliseconds
    /// since 1970. Nil if that is unknown.
    package var completeThrough: Int64?
    /// Whether the log itself must confirm it. Otherwise the reports of producers are enough.
    package var needsLog: Bool
    /// The producers that had events under way at an earlier look. Only their events still count as
    /// a reason against the close. While events flow all the time, some producer always has events
    /// under way, but not always the same one. A producer that was seen without any needs no
    /// further look. Nil stands for all producers.
    package var inFlightBefore: [Identifier]?

    package init(
      endingBefore: String, customer: Identifier? = nil, graceSeconds: Int64,
      group: String = ConsumerGroup.aggregator, topic: String = TopicName.usage,
      completeThrough: Int64?, needsLog: Bool = false
    ) {
      self.endingBefore = endingBefore
      self.customer = customer
      self.graceSeconds = graceSeconds
      self.group = group
      self.topic = topic
      self.completeThrough = completeThrough
      self.needsLog = needsLog
    }
  }

  /// The time before which everything that was sent is counted or known to be missing, in
  /// milliseconds since 1970. Nil if that is unknown. It comes from the log, which metering-api
  /// asks. If metering-api never asked, it is the oldest report of a producer that still has to be
  /// looked at, or the present.
  package func completeThrough(_ question: Question) throws(PostgresError) -> Int64? {
    if let known = try ProgressStore(connection).completeThrough() { return known }
    if question.needsLog { return nil }
    return try connection.query(
      """
      select floor(extract(epoch from coalesce(min(reported_at) filter (where judged_at is null), now()))
        * 1000)::bigint from producer_report where consumer_group = $1 and topic = $2
      """, [.text(question.group), .text(question.topic)], operation: "read the reports"
    ).integer(0, 0)
  }

  /// - Parameter onlyEnd: the end of the one period to close, in milliseconds since 1970. Then
  ///   there are no sums and no warnings.
  package func preview(
    _ question: Question, onlyEnd: Int64? = nil
  ) throws(PostgresError) -> ClosePreview {
    var preview = ClosePreview()
    let last = if let onlyEnd { onlyEnd as Int64? } else { try sums(question, &preview) }
    if let last {
      let isOver = try graceIsOver(question, last, &preview)
      // Events that arrive within the grace are waited for as well.
      completeness(question, isOver ? last + question.graceSeconds * 1_000 : last, &preview)
    }
    try ledger(question, &preview)
    try halts(question, &preview)
    try imports(&preview)
    if onlyEnd == nil { try warnings(question, &preview) }
    return preview
  }

  /// - Returns: the end of the last period that would be closed, in milliseconds since 1970.
  private func sums(
    _ question: Question, _ preview: inout ClosePreview
  ) throws(PostgresError) -> Int64? {
    let rows = try connection.query(
      """
      select o.meter, count(*), sum(o.quantity), sum(case when l.quantity is null then 0
          else greatest(o.quantity + coalesce(a.quantity, 0) - l.quantity, 0) end),
        (extract(epoch from max(o.period_end)) * 1000)::bigint
      from periods_open(least($1::date, (now() at time zone 'UTC')::date), $2) o
      left join license_limit l on l.license_id = o.license_id and l.meter = o.meter
      left join lateral (
        select sum(e.quantity) as quantity from usage_adjustment_entry e
        where e.license_id = o.license_id and e.meter = o.meter and e.kind = 'manual'
          and e.applies_to_period_start >= o.period_start
          and e.applies_to_period_start < o.period_end) a on true
      group by 1 order by 1
      """, [.text(question.endingBefore), .optional(question.customer?.string)],
      operation: "preview a close")
    for i in rows.rows.indices {
      preview.periods += rows.integer(i, 1) ?? 0
      preview.byMeter.append(
        ClosePreview.Meter(
          meter: rows.text(i, 0) ?? "", quantity: Int128(rows.text(i, 2) ?? "") ?? 0,
          overage: Int128(rows.text(i, 3) ?? "") ?? 0))
    }
    return rows.rows.indices.compactMap { rows.integer($0, 4) }.max()
  }

  private func graceIsOver(
    _ question: Question, _ last: Int64, _ preview: inout ClosePreview
  ) throws(PostgresError) -> Bool {
    let over = last + question.graceSeconds * 1_000
    let rows = try connection.query(
      "select now() < to_timestamp($1::bigint / 1000.0)", [.integer(over)],
      operation: "preview a close")
    guard rows.boolean(0, 0) else { return true }
    preview.blockers.append(
      ClosePreview.Notice(
        "grace_not_over",
        "the last of these periods ends at \(UTCTime.text(last)), and events of it are waited for until "
          + "\(UTCTime.text(over)) (METER_CLOSE_GRACE); close then, or close what ended earlier"))
    return false
  }

  /// - Parameter needed: the time before which every event must be counted.
  private func completeness(
    _ question: Question, _ needed: Int64, _ preview: inout ClosePreview
  ) {
    if let through = question.completeThrough, through >= needed { return }
    let known =
      question.completeThrough.map { "the numbers are complete only through \(UTCTime.text($0))" }
      ?? "it is not known through what time the numbers are complete"
    preview.blockers.append(
      ClosePreview.Notice(
        "lag",
        "\(known); this close needs \(UTCTime.text(needed)); see: meterctl status"))
  }

  private func ledger(
    _ question: Question, _ preview: inout ClosePreview
  ) throws(PostgresError) {
    let rows = try connection.query(
      """
      select coalesce(sum(in_flight) filter (where is_waited_for), 0),
        coalesce(sum(missing) filter (where missing > 0), 0),
        min(producer) filter (where in_flight > 0 and is_waited_for),
        min(producer) filter (where missing > 0),
        coalesce(sum(pending) filter (where is_silent), 0), min(producer) filter (where is_silent)
      from (
        select *, pending > 0 and not coalesce(final, false)
            and last_report_at < now() - interval '5 minutes' as is_silent,
          $3::text[] is null or producer = any ($3) as is_waited_for
        from producer_ledger where consumer_group = $1 and topic = $2) l
      """,
      [
        .text(question.group), .text(question.topic),
        question.inFlightBefore.map { .identifiers($0) } ?? .null,
      ], operation: "preview a close")
    let (inFlight, missing) = (rows.text(0, 0) ?? "0", rows.text(0, 1) ?? "0")
    if inFlight != "0" {
      preview.inFlight = try producersInFlight(question)
      preview.blockers.append(
        ClosePreview.Notice(
          ClosePreview.inFlightCode,
          "\(inFlight) events that producers have sent are not counted yet, such as those of "
            + "\(rows.text(0, 2) ?? ""); this passes within seconds where nothing lags"))
    }
    if let silent = rows.text(0, 5) {
      preview.blockers.append(
        ClosePreview.Notice(
          ClosePreview.inFlightCode,
          "\(rows.text(0, 4) ?? "0") events wait in the spools of producers that have been silent for "
            + "5 minutes, such as \(silent); start that process again, so that it sends them"))
    }
    if missing != "0" {
      preview.blockers.append(
        ClosePreview.Notice(
          "missing",
          "\(missing) events that producers have sent were never counted, such as those of "
            + "\(rows.text(0, 3) ?? ""); see: meterctl status, meterctl reconcile"))
    }
  }

  private func producersInFlight(
    _ question: Question
  ) throws(PostgresError) -> [Identifier] {
    try connection.query(
      """
      select producer from producer_ledger
      where consumer_group = $1 and topic = $2 and in_flight > 0
        and ($3::text[] is null or producer = any ($3))
      """,
      [
        .text(question.group), .text(question.topic),
        question.inFlightBefore.map { .identifiers($0) } ?? .null,
      ], operation: "preview a close"
    ).rows.map { Identifier($0[0] ?? "") }
  }

  private func halts(
    _ question: Question, _ preview: inout ClosePreview
  ) throws(PostgresError) {
    let rows = try connection.query(
      """
      select partition, reason, remedy from partition_halt
      where consumer_group = $1 and topic = $2 order by 1
      """, [.text(question.group), .text(question.topic)], operation: "preview a close")
    guard !rows.isEmpty else { return }
    let remedy = rows.text(0, 2).map { "; run: \($0)" } ?? ""
    preview.blockers.append(
      ClosePreview.Notice(
        "halted_partition",
        "\(rows.rows.count) partitions of \(question.topic) are not read, the first is "
          + "\(rows.text(0, 0) ?? ""): \(rows.text(0, 1) ?? "")\(remedy)"))
  }

  private func imports(_ preview: inout ClosePreview) throws(PostgresError) {
    let rows = try connection.query(
      "select batch, file_name from import_batch where status = 'running' order by started_at",
      operation: "preview a close")
    guard !rows.isEmpty else { return }
    preview.blockers.append(
      ClosePreview.Notice(
        "pending_import",
        "\(rows.rows.count) imports have not ended, such as \(rows.text(0, 0) ?? "") of "
          + "\(rows.text(0, 1) ?? ""); run meterctl import-log with the same file again to end it"))
  }

  private func warnings(
    _ question: Question, _ preview: inout ClosePreview
  ) throws(PostgresError) {
    // A close of one customer or of what was left over does not show that somebody has looked at
    // them. A record that could not be counted may be anybody's.
    let dead =
      try connection.query(
        """
        select count(*) from dead_letter where topic = $1 and counted_at is null
          and received_at >= coalesce((
            select max(first) from (
              select min(began_at) as first from usage_close
              where finished_at is not null and closed > 0 and customer_id is null
                and period_id is null
              group by ending_before) c), '-infinity')
        """, [.text(question.topic)], operation: "preview a close"
      ).integer(0, 0) ?? 0
    if dead > 0 {
      preview.warnings.append(
        ClosePreview.Notice(
          "dead_letters",
          "\(dead) \(dead == 1 ? "record" : "records") since the last close of a month could not be counted; see: meterctl dead-letters list"
        ))
    }
    let rows = try connection.query(
      """
      with o as materialized (
        select * from periods_open(least($1::date, (now() at time zone 'UTC')::date), $2)
      )
      select 'unregistered', count(distinct o.license_id), min(o.license_id), null, null from o
      where not exists (select from license l where l.license_id = o.license_id)
      having count(*) > 0
      union all
      (select 'unusual', count(*) over (), o.license_id, o.meter,
        o.quantity || ' after about ' || round(p.mean)
      from o, lateral (
        select avg(r.quantity) as mean, count(*) as n from (
          select x.quantity from usage_period_closed x
          where x.license_id = o.license_id and x.meter = o.meter and x.period_start < o.period_start
          order by x.period_start desc limit 3) r) p
      where p.n > 0 and abs(o.quantity - p.mean) >= 1000
        and (o.quantity > 3 * p.mean or 3 * o.quantity < p.mean)
      order by abs(o.quantity - p.mean) desc limit 5)
      """, [.text(question.endingBefore), .optional(question.customer?.string)],
      operation: "preview a close")
    for i in rows.rows.indices where rows.text(i, 0) == "unregistered" {
      preview.warnings.append(
        ClosePreview.Notice(
          "unregistered_licenses",
          "licenses that nobody registered have usage: \(rows.text(i, 1) ?? ""), such as "
            + "\(rows.text(i, 2) ?? ""); nobody is billed for it; see: meterctl license unregistered"
        ))
    }
    for i in rows.rows.indices where rows.text(i, 0) == "unusual" {
      preview.warnings.append(
        ClosePreview.Notice(
          "unusual",
          "\(rows.text(i, 2) ?? "") used \(rows.text(i, 3) ?? "") \(rows.text(i, 4) ?? "") in its "
            + "last periods"))
    }
  }
}
