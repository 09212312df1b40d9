import CLibPQ
import Metering

extension PostgresConnection {
  /// Streams rows into `table (columns)` in the binary format. `body` calls `send` with whole or
  /// partial rows, any number of times.
  package func copy(
    into target: String, operation: String,
    _ body: ((UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) -> Void
  ) throws(PostgresError) {
    let started = answer(
      sent: PQsendQuery(connection, "copy \(target) from stdin with (format binary)"))
    let status = PQresultStatus(started)
    if status != PGRES_COPY_IN {
      _ = try take(started, operation)
      throw PostgresError(
        sqlState: SQLState.system, operation: operation, message: "COPY did not start")
    }
    PQclear(started)
    do throws(PostgresError) {
      try body { (bytes: UnsafeRawBufferPointer) throws(PostgresError) in
        guard bytes.count > 0 else { return }
        let sent = PQputCopyData(
          connection, bytes.baseAddress!.assumingMemoryBound(to: CChar.self), Int32(bytes.count))
        guard sent == 1 else { throw failure(operation) }
      }
    } catch {
      PQputCopyEnd(connection, "given up")
      drain()
      throw error
    }
    guard PQputCopyEnd(connection, nil) == 1 else { throw failure(operation) }
    var first: PostgresError?
    while let result = nextAnswer() {
      if PQresultStatus(result) != PGRES_COMMAND_OK, first == nil {
        first = Self.error(result, operation, connection)
      }
      PQclear(result)
    }
    if let first { throw first }
  }

  private func drain() {
    while let result = nextAnswer() { PQclear(result) }
  }
}
