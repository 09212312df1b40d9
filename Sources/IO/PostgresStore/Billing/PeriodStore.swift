package import Metering

/// Billing periods and how they are closed.
///
/// The top of `v0023_periods.sql` describes what a close guarantees.
package struct PeriodStore {
  package let connection: PostgresConnection

  package init(_ connection: PostgresConnection) { self.connection = connection }

  /// A request to close periods.
  package struct CloseRequest: Sendable, Equatable {
    /// A UTC day such as `2026-11-01`. Periods that end on this day or before it are closed, unless
    /// they have not ended yet.
    package var endingBefore: String
    /// Nil stands for the licenses of all customers and for unregistered licenses.
    package var customer: Identifier?
    package var isForced: Bool
    /// The reason, which is required if the close is forced.
    package var reason: String?
    package var closedBy: String
    /// The reasons against the close when it was requested, as a JSON array.
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
    /// The number of periods that this close closed.
    package var closed: Int64
    /// The number of requested periods that were already closed.
    package var alreadyClosed: Int64
  }

  /// How many licenses one transaction closes. Merges wait for one such transaction, and flushes
  /// wait for none. Two thousand licenses take about 0.1 s. Each transaction walks over what is
  /// pending, so smaller ones cost more while much is counted.
  package static let licensesInABatch = 2_000

  /// Closes periods in many short transactions on the caller's connection, which must not be in a
  /// transaction.
  ///
  /// If it is interrupted, each license is either closed or not, and another close continues. Two
  /// closes at the same time share the work.
  ///
  /// - Parameter batchEnded: called between two transactions with the number of periods that are
  ///   closed so far.
  package func close(
    _ request: CloseRequest, batchEnded: (Int64) throws -> Void = { _ in }
  ) throws -> CloseResult {
    let close = try begin(request)
    return try finish(
      close, closed: try closeAll(close, request, batchEnded: batchEnded), request)
  }

  /// Closes the periods of a close that has begun, in the same way.
  ///
  /// - Returns: the number of periods that this closed.
  package func closeAll(
    _ close: Int64, _ request: CloseRequest, batchEnded: (Int64) throws -> Void = { _ in }
  ) throws -> Int64 {
    var (after, closed): (String?, Int64) = ("", 0)
    while let next = after {
      let batch = try retrying { () throws(PostgresError) in
        try closeNext(close, after: next, request, most: Self.licensesInABatch)
      }
      (after, closed) = (batch.last, closed + batch.closed)
      try batchEnded(closed)
    }
    return closed
  }

  /// Records the beginning of a close.
  ///
  /// - Returns: the id of the close.
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

  /// Closes the periods of the next `most` licenses in one transaction.
  ///
  /// - Returns: the last license that was looked at, or nil after the last license.
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

  /// Records the end of a close.
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
    /// The meter was not used in such a period, and no adjustment goes on its invoice.
    case noPeriod = "no_period"
  }

  /// Closes one meter's period of one license in one transaction. If it is not closed, no record of
  /// the close is left.
  package func closeOne(
    _ period: PeriodID, _ request: CloseRequest
  ) throws -> (outcome: OneClosed, result: CloseResult) {
    try connection.transaction {
      // The transaction may be the caller's, who goes on with it.
      try connection.execute("savepoint close_one")
      let close = try begin(request, periodID: period.text)
      let outcome =
        try connection.query(
          "select usage_close_one($1::bigint, $2, $3, $4::date)",
          [.integer(close), .identifier(period.license), .text(period.meter), .text(period.start)],
          operation: "close a period"
        ).text(0, 0).flatMap(OneClosed.init(rawValue:)) ?? .noPeriod
      guard outcome == .closed else {
        try connection.execute("rollback to savepoint close_one")
        let alreadyClosed: Int64 = outcome == .alreadyClosed ? 1 : 0
        return (outcome, CloseResult(closeID: 0, closed: 0, alreadyClosed: alreadyClosed))
      }
      try connection.query(
        "update usage_close set finished_at = clock_timestamp() where close_id = $1::bigint",
        [.integer(close)], operation: "end a close")
      return (.closed, CloseResult(closeID: close, closed: 1, alreadyClosed: 0))
    }
  }

  /// Repeats the body a few times if a lock or a deadlock interrupted it. Nothing of it is stored
  /// then.
  private func retrying<T>(_ body: () throws(PostgresError) -> T) throws(PostgresError) -> T {
    for _ in 0..<4 {
      do { return try body() } catch {
        guard error.isRetriable, !error.isConnectionLost else { throw error }
      }
    }
    return try body()
  }
}
