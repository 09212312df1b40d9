/// The rows of usage as they are stored, and as the views show them.
extension UsageReads {
  /// A row of usage as it is stored, with the partition that it came from.
  package struct Stored: Sendable {
    package var logEpoch: Int32
    package var partition: Int32
    package var license: String
    package var meter: String
    package var start: Int64
    package var quantity: Int128
    package var eventCount: Int64
    /// The offsets of the first and the last event. Rows of hours have them; others have none.
    package var firstOffset: Int64
    package var lastOffset: Int64
  }

  /// A row of a view.
  package struct Row: Sendable {
    package var license: String
    package var meter: String
    package var start: Int64
    package var dimension: String
    package var value: String
    package var quantity: Int128
    package var eventCount: Int64
  }

  /// Reads the rows by hour, epoch and partition, both merged and waiting rows.
  ///
  /// - Parameter license: the license to read, or nil for all.
  package func hours(
    in range: Minutes, license: String? = nil, meter: String? = nil, _ body: (Stored) -> Void
  ) throws {
    try forEachPage(
      """
      select log_epoch, partition, license_id, meter, (extract(epoch from hour) / 60)::bigint,
        sum(quantity), sum(event_count), min(first_offset), max(last_offset)
      from (
        select log_epoch, partition, license_id, meter, hour, quantity, event_count, first_offset,
          last_offset
        from usage_hour
        union all
        select log_epoch, partition, license_id, meter, hour, quantity, event_count, first_offset,
          last_offset
        from usage_waiting
      ) u where \(range.condition("hour")) and \(Self.filter(license, meter)) group by 1, 2, 3, 4, 5
      """, "read hours"
    ) { rows, i in body(Self.stored(rows, i, first: rows.integer(i, 7), last: rows.integer(i, 8))) }
  }

  /// The minutes within those hours that are still kept.
  package func minutes(
    in range: Minutes, license: String? = nil, meter: String? = nil, _ body: (Stored) -> Void
  ) throws {
    try forEachPage(
      """
      select log_epoch, partition, license_id, meter,
        (extract(epoch from hour) / 60)::bigint + minute, sum(quantity), sum(events)
      from (
        select log_epoch, partition, license_id, meter, hour, (e->>0)::int as minute,
          (e->>1)::numeric as quantity, (e->>2)::numeric as events
        from (
          select log_epoch, partition, license_id, meter, hour, minutes from usage_hour
          union all
          select log_epoch, partition, license_id, meter, hour, minutes from usage_waiting
        ) u, json_array_elements(('[' || u.minutes || ']')::json) e
        where \(range.condition("hour")) and \(Self.filter(license, meter))
      ) m group by 1, 2, 3, 4, 5
      """, "read minutes"
    ) { rows, i in body(Self.stored(rows, i, first: nil, last: nil)) }
  }

  /// The view `usage_by_day`.
  package func days(in range: Minutes, _ body: (Row) -> Void) throws {
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint, '', '', quantity,
        event_count
      from usage_by_day where \(range.condition("bucket_start"))
      """, "read days"
    ) { rows, i in body(Self.row(rows, i)) }
  }

  /// The view `usage_by_dimension_day`.
  package func dimensions(in range: Minutes, _ body: (Row) -> Void) throws {
    try forEachPage(
      """
      select license_id, meter, (extract(epoch from bucket_start) / 60)::bigint, dimension, value,
        quantity, event_count
      from usage_by_dimension_day where \(range.condition("bucket_start"))
      """, "read dimensions"
    ) { rows, i in body(Self.row(rows, i)) }
  }

  /// Sums by meter that an invoice would be made from. They come from `usage_by_hour`, or from
  /// `usage_by_minute` if the range does not consist of whole hours.
  package func viewSums(
    license: String, meter: String?, in range: Minutes
  ) throws(PostgresError) -> [(meter: String, quantity: Int128, eventCount: Int64)] {
    let isHours = range == range.widened(to: 60)
    let rows = try connection.query(
      """
      select meter, sum(quantity), sum(event_count)
      from \(isHours ? "usage_by_hour" : "usage_by_minute")
      where license_id = $1 and ($2::text is null or meter = $2::text)
        and \(range.condition("bucket_start"))
      group by 1 order by 1
      """, [.text(license), .optional(meter)], operation: "read the view")
    return rows.rows.indices.map {
      (rows.text($0, 0) ?? "", Self.wide(rows, $0, 1), rows.integer($0, 2) ?? 0)
    }
  }

  private static func filter(_ license: String?, _ meter: String?) -> String {
    var parts = ["true"]
    if let license { parts.append("license_id = \(literal(license))") }
    if let meter { parts.append("meter = \(literal(meter))") }
    return parts.joined(separator: " and ")
  }

  private static func stored(_ rows: SQLRows, _ i: Int, first: Int64?, last: Int64?) -> Stored {
    Stored(
      logEpoch: Int32(rows.integer(i, 0)!), partition: Int32(rows.integer(i, 1)!),
      license: rows.text(i, 2) ?? "", meter: rows.text(i, 3) ?? "", start: rows.integer(i, 4)!,
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0, firstOffset: first ?? 0,
      lastOffset: last ?? 0)
  }

  private static func row(_ rows: SQLRows, _ i: Int) -> Row {
    Row(
      license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "", start: rows.integer(i, 2)!,
      dimension: rows.text(i, 3) ?? "", value: rows.text(i, 4) ?? "",
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0)
  }
}
