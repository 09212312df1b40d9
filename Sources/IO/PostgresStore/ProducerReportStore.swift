/// Producers' reports of what they sent, and when each of them is judged.
///
/// A report is judged when every partition has been counted up to the log end that was found after
/// the report arrived. Until then, events that are not counted are in flight. Afterwards they are
/// missing. A report of an earlier epoch is judged immediately, because nobody will read that log.
package struct ProducerReportStore {
  package let connection: PostgresConnection
  private let group: String
  private let topic: String

  package init(_ connection: PostgresConnection, group: String, topic: String) {
    self.connection = connection
    self.group = group
    self.topic = topic
  }

  /// One report of one producer, as it was when it was read.
  package struct Report: Sendable, Equatable {
    package var producer: String
    /// The time as PostgreSQL writes it.
    package var reportedAt: String
    package var accepted: Int64
  }

  /// The reports whose log ends are not known yet.
  package func newReports(limit: Int) throws(PostgresError) -> [Report] {
    let rows = try connection.query(
      """
      select producer, reported_at::text, accepted from producer_report
      where consumer_group = $1 and topic = $2 and log_ends is null limit $3::int
      """, [.text(group), .text(topic), .int(limit)], operation: "read the ledger")
    return rows.rows.indices.map {
      Report(
        producer: rows.text($0, 0) ?? "", reportedAt: rows.text($0, 1) ?? "",
        accepted: rows.integer($0, 2) ?? 0)
    }
  }

  /// Stores the log ends of a report, unless a newer report has replaced it.
  ///
  /// - Parameter ends: for each partition the end after all records that the brokers accepted,
  ///   including those of open transactions. The end of the readable records would report as lost
  ///   what nobody may read yet.
  package func setLogEnds(_ ends: [Int64], of report: Report) throws(PostgresError) {
    try connection.query(
      """
      update producer_report set log_ends = $4::bigint[]
      where consumer_group = $1 and topic = $2 and producer = $3 and accepted = $5::bigint
        and reported_at = $6::timestamptz
      """,
      [
        .text(group), .text(topic), .text(report.producer), .integers(ends),
        .integer(report.accepted), .text(report.reportedAt),
      ], operation: "write the ledger")
  }

  /// Judges the reports whose log ends have been counted, or whose log is gone.
  package func judge() throws(PostgresError) {
    try connection.query(
      """
      update producer_report r set judged_at = now()
      where consumer_group = $1 and topic = $2 and judged_at is null
        and (log_epoch < (
            select max(o.log_epoch) from consumer_offset o
            where o.consumer_group = $1 and o.topic = $2)
          or log_ends is not null and not exists (
            select from unnest(r.log_ends) with ordinality e(log_end, place)
            left join consumer_offset o on o.consumer_group = r.consumer_group
              and o.topic = r.topic and o.partition = e.place - 1
            where e.log_end > 0 and coalesce(o.next_offset, 0) < e.log_end))
      """, [.text(group), .text(topic)], operation: "judge the ledger")
  }
}
