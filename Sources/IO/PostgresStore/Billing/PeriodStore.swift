package import Metering

/// Billing periods: what is open, what is closed, and the closing of them.
///
/// What a close guarantees is written at the top of `v0023_periods.sql`.
package struct PeriodStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// What somebody wants to be closed.
  package struct CloseRequest: Sendable, Equatable {
    /// Periods that end on this day or before it, as `2026-11-01`, UTC. Periods that have not ended
    /// are left open whatever it says.
    package var endingBefore: String
    /// Nil: the licenses of all customers, and those that nobody registered.
    package var customer: Identifier?
    package var isForced: Bool
    /// Required where it is forced.
    package var reason: String?
    package var closedBy: String
    /// A JSON array: what stood against the close when it was asked for.
    package var blockers: String

    package init(
      endingBefore: String, customer: Identifier? = nil, isForced: Bool = false,
      reason: String? = nil, closedBy: String, blockers: String = "[]"
    ) {
      self.endingBefore = endingBefore
      self.customer = customer
      self.isForced = isForced
      self.reason = reason
      self.closedBy = closedBy
      self.blockers = blockers
    }
  }

  package struct CloseResult: Sendable, Equatable {
    package var closeID: Int64
    /// Periods that this close closed.
    package var closed: Int64
    /// Periods that it was asked for and that others had closed.
    package var alreadyClosed: Int64
  }

  /// How many licenses one transaction closes. Merges wait for one such transaction; flushes wait for
  /// none. A thousand licenses with a month of days each take about 0.1 s.
  package static let licensesInABatch = 1_000

  /// Closes, in many short transactions of the caller's connection, which must be in none.
  ///
  /// What is cut off is half done and nowhere half visible: each license is closed or not. Another
  /// close continues. Two at once share the work.
  ///
  /// - Parameter batchEnded: called between two transactions, with the periods closed so far.
  package func close(
    _ request: CloseRequest, batchEnded: (Int64) throws -> Void = { _ in }
  ) throws -> CloseResult {
    let close = try begin(request)
    var (after, closed): (String?, Int64) = ("", 0)
    while let next = after {
      let batch = try retrying { () throws(PostgresError) in
        try closeNext(close, after: next, request, most: Self.licensesInABatch)
      }
      (after, closed) = (batch.last, closed + batch.closed)
      try batchEnded(closed)
    }
    return try finish(close, closed: closed, request)
  }

  /// Writes that a close begins. - Returns: its id.
  package func begin(
    _ request: CloseRequest, periodID: String? = nil
  ) throws(PostgresError) -> Int64 {
    try connection.query(
      """
      insert into usage_close (closed_by, ending_before, customer_id, period_id, forced, reason, blockers)
      values ($1, $2::date, $3, $4, $5::boolean, $6, $7::jsonb) returning close_id
      """,
      [
        .text(request.closedBy), .text(request.endingBefore), .optional(request.customer?.string),
        .optional(periodID), .boolean(request.isForced), .optional(request.reason),
        .text(request.blockers),
      ], operation: "begin a close"
    ).integer(0, 0) ?? 0
  }

  /// Closes the periods of the next `most` licenses, in one transaction.
  ///
  /// - Returns: the last license that was looked at; nil behind the last.
  package func closeNext(
    _ close: Int64, after: String, _ request: CloseRequest, most: Int
  ) throws(PostgresError) -> (last: String?, closed: Int64) {
    let rows = try connection.query(
      "select last_license, closed from usage_close_next($1::bigint, $2, $3::date, $4, $5::int)",
      [
        .integer(close), .text(after), .text(request.endingBefore),
        .optional(request.customer?.string), .int(most),
      ], operation: "close periods")
    return (rows.text(0, 0), rows.integer(0, 1) ?? 0)
  }

  /// Writes that a close has ended.
  package func finish(
    _ close: Int64, closed: Int64, _ request: CloseRequest
  ) throws(PostgresError) -> CloseResult {
    let rows = try connection.query(
      """
      update usage_close set finished_at = clock_timestamp(), already_closed = (
        select count(*) from usage_period_closed p where p.period_end <= $2::date
          and ($3::text is null or p.customer_id = $3) and p.close_id <> $1::bigint)
      where close_id = $1::bigint returning already_closed
      """,
      [.integer(close), .text(request.endingBefore), .optional(request.customer?.string)],
      operation: "end a close")
    return CloseResult(closeID: close, closed: closed, alreadyClosed: rows.integer(0, 0) ?? 0)
  }

  package enum OneClosed: String, Sendable, Equatable {
    case closed
    case alreadyClosed = "already_closed"
    case notEnded = "not_ended"
    /// Nothing was used of that meter in such a period, and no adjustment goes on its invoice.
    case noPeriod = "no_period"
  }

  /// Closes one meter's period of one license, in one transaction. Where it is not closed, no record
  /// of the close is left.
  package func closeOne(
    _ period: PeriodID, _ request: CloseRequest
  ) throws -> (outcome: OneClosed, result: CloseResult) {
    struct Refused: Error {
      let outcome: OneClosed
      let result: CloseResult
    }
    do {
      return try connection.transaction {
        let close = try begin(request, periodID: period.text)
        let outcome = try connection.query(
          "select usage_close_one($1::bigint, $2, $3, $4::date)",
          [.integer(close), .identifier(period.license), .text(period.meter), .text(period.start)],
          operation: "close a period"
        ).text(0, 0).flatMap(OneClosed.init(rawValue:))
        guard outcome == .closed else {
          throw Refused(
            outcome: outcome ?? .noPeriod,
            result: CloseResult(
              closeID: 0, closed: 0, alreadyClosed: outcome == .alreadyClosed ? 1 : 0))
        }
        try connection.query(
          "update usage_close set finished_at = clock_timestamp() where close_id = $1::bigint",
          [.integer(close)], operation: "end a close")
        return (.closed, CloseResult(closeID: close, closed: 1, alreadyClosed: 0))
      }
    } catch let refused as Refused {
      return (refused.outcome, refused.result)
    }
  }

  /// A few times, for what a lock or a deadlock has cut off: nothing is half done then.
  private func retrying<T>(_ body: () throws(PostgresError) -> T) throws(PostgresError) -> T {
    for _ in 0..<4 {
      do { return try body() } catch {
        guard error.isRetriable, !error.isConnectionLost else { throw error }
      }
    }
    return try body()
  }
}
