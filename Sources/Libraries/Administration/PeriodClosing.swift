import Billing
import JSONText
import Metering
package import PostgresStore

/// Closes billing periods. `PeriodStore` describes what a close guarantees.
///
/// A close of many periods takes many transactions. Its request is recorded in the audit log with
/// the first of them, so that no period is closed by somebody who is not named there, whatever ends
/// the process. Its result is recorded with the last one.
extension Administrator {
  /// Records the beginning of a close, in one transaction.
  ///
  /// - Returns: the id of the close.
  package func beginClose(_ request: PeriodStore.CloseRequest) throws -> Int64 {
    try connection.transaction {
      let close = try PeriodStore(connection).begin(request)
      try record(
        AuditedChange(
          "periods.close", "close", String(close), customerID: request.customer?.string,
          after: Self.object { Self.write(request, to: &$0) }))
      return close
    }
  }

  /// Records the end of a close, in one transaction.
  ///
  /// - Parameter closed: the number of periods that were closed.
  package func finishClose(
    _ close: Int64, closed: Int64, _ request: PeriodStore.CloseRequest
  ) throws -> PeriodStore.CloseResult {
    try connection.transaction {
      let result = try PeriodStore(connection).finish(close, closed: closed, request)
      try record(
        AuditedChange(
          "periods.closed", "close", String(close), customerID: request.customer?.string,
          after: Self.object { Self.write(result, to: &$0) }))
      return result
    }
  }

  /// Closes periods in many short transactions. The connection must not be in a transaction.
  package func close(_ request: PeriodStore.CloseRequest) throws -> PeriodStore.CloseResult {
    let close = try beginClose(request)
    let closed = try PeriodStore(connection).closeAll(close, request)
    return try finishClose(close, closed: closed, request)
  }

  /// Closes one meter's period of one license. Only a close that closed it is recorded.
  ///
  /// - Parameter period: the period as it was read.
  package func closeOne(
    _ period: PeriodStore.Period, _ request: PeriodStore.CloseRequest
  ) throws -> (outcome: PeriodStore.OneClosed, result: PeriodStore.CloseResult) {
    try connection.transaction {
      let (outcome, result) = try PeriodStore(connection).closeOne(period.id, request)
      if outcome == .closed {
        try record(
          AuditedChange(
            "period.close", "period", period.id.text, customerID: period.customer?.string,
            after: Self.object {
              Self.write(request, to: &$0)
              Self.write(result, to: &$0)
            }))
      }
      return (outcome, result)
    }
  }

  private static func object(_ write: (inout JSONWriter) -> Void) -> String {
    var json = JSONWriter()
    json.beginObject()
    write(&json)
    json.endObject()
    return String(decoding: json.bytes, as: UTF8.self)
  }

  private static func write(_ request: PeriodStore.CloseRequest, to json: inout JSONWriter) {
    json.member("ending_before", request.endingBefore)
    json.member("force", cell: .boolean(request.isForced))
    json.member("reason", cell: .optional(request.reason))
    json.member("blockers", cell: .json(Array(request.blockers.utf8)))
  }

  private static func write(_ result: PeriodStore.CloseResult, to json: inout JSONWriter) {
    json.member("closed", result.closed)
    json.member("already_closed", result.alreadyClosed)
  }
}
