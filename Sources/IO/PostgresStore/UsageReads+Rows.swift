import Metering

/// The rows of usage as they are stored, and as the views show them.
extension UsageReads {
  /// A row of an hour as it is stored, with the partition that it came from.
  package struct Stored: Sendable {
    package var logEpoch: Int32
    package var partition: Int32
    package var license: String
    package var meter: String
    package var start: Int64
    package var quantity: Int128
    package var eventCount: Int64
    /// The offsets of the first and the last event.
    package var firstOffset: Int64
    package var lastOffset: Int64
    /// Those of its minutes that are still kept. A minute can occur several times.
    package var minutes: [PackedMinutes.Minute]
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

  /// Reads the hours of all epochs and partitions with their minutes. An hour of a partition can
  /// have several rows, because merged and waiting rows are read as they are.
  ///
  /// - Parameter license: the license to read, or nil for all.
  /// - Throws: `PostgresError` also if the text of a row's minutes cannot be read.
  package func hours(
    in range: Minutes, license: String? = nil, meter: String? = nil, _ body: (Stored) -> Void
  ) throws {
    let columns = """
      log_epoch, partition, license_id, meter, hour, quantity, event_count, first_offset, \
      last_offset, minutes
      """
    try forEachPage(
      """
      select log_epoch, partition, license_id, meter, (extract(epoch from hour) / 60)::bigint,
        quantity, event_count, first_offset, last_offset, minutes
      from (
        select \(columns) from usage_hour union all select \(columns) from usage_waiting
      ) u where \(range.condition("hour")) and \(Self.filter(license, meter))
      """, "read hours"
    ) { rows, i in body(try Self.stored(rows, i)) }
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
  /// the minutes if the range does not consist of whole hours.
  package func viewSums(
    license: String, meter: String?, in range: Minutes
  ) throws(PostgresError) -> [(meter: String, quantity: Int128, eventCount: Int64)] {
    let isHours = range == range.widened(to: 60)
    let rows = try connection.query(
      """
      select meter, sum(quantity), sum(event_count)
      from \(isHours ? "usage_by_hour" : "usage_hour_minutes")
      where license_id = $1 and ($2::text is null or meter = $2::text)
        and \(range.condition("bucket_start"))
        and \(isHours ? "true" : range.widened(to: 60).condition("hour"))
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

  private static func stored(_ rows: SQLRows, _ i: Int) throws(PostgresError) -> Stored {
    let text = rows.text(i, 9) ?? ""
    guard let minutes = PackedMinutes.parse(text.utf8) else {
      throw PostgresError(
        sqlState: SQLState.system, operation: "read hours",
        message: "the minutes of a stored hour are not readable: "
          + "license \(rows.text(i, 2) ?? ""), meter \(rows.text(i, 3) ?? ""), "
          + "hour \(rows.integer(i, 4) ?? 0) (in minutes since 1970)")
    }
    return Stored(
      logEpoch: Int32(rows.integer(i, 0)!), partition: Int32(rows.integer(i, 1)!),
      license: rows.text(i, 2) ?? "", meter: rows.text(i, 3) ?? "", start: rows.integer(i, 4)!,
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0,
      firstOffset: rows.integer(i, 7) ?? 0, lastOffset: rows.integer(i, 8) ?? 0, minutes: minutes)
  }

  private static func row(_ rows: SQLRows, _ i: Int) -> Row {
    Row(
      license: rows.text(i, 0) ?? "", meter: rows.text(i, 1) ?? "", start: rows.integer(i, 2)!,
      dimension: rows.text(i, 3) ?? "", value: rows.text(i, 4) ?? "",
      quantity: wide(rows, i, 5), eventCount: rows.integer(i, 6) ?? 0)
  }
}
