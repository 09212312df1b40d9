import CLibPQ
import Glibc

/// Waits for answers, up to a limit.
///
/// libpq's own calls wait for as long as the connection exists. The server ends a statement by
/// `statement_timeout` and says so. But a proxy or a middlebox may swallow that, and go on
/// acknowledging on the level of TCP. Then nobody would ever wake the thread.
extension PostgresConnection {
  /// Works like `PQexec`: returns the last result, or the first one that begins a COPY.
  ///
  /// - Parameter sent: libpq's result of sending the statement.
  func answer(sent: Int32) -> OpaquePointer? {
    guard sent == 1 else { return nil }
    var last: OpaquePointer?
    while let result = nextAnswer() {
      if let last { PQclear(last) }
      last = result
      let status = PQresultStatus(result)
      if status == PGRES_COPY_IN || status == PGRES_COPY_OUT || !isOpen { break }
    }
    return last
  }

  /// The next result of the current command; nil if there is none.
  func nextAnswer() -> OpaquePointer? {
    awaitAnswer()
    return PQgetResult(connection)
  }

  /// Waits until libpq has the next result, so that `PQgetResult` does not wait. If the time is
  /// over, it shuts the connection down, and libpq then finds it lost.
  func awaitAnswer() {
    guard let answerMilliseconds else { return }
    let end = Self.now + answerMilliseconds
    while PQisBusy(connection) == 1 {
      let left = end - Self.now
      if left <= 0 {
        shutdown(PQsocket(connection), Int32(SHUT_RDWR))
        return
      }
      guard SocketWait.readable(PQsocket(connection), milliseconds: Int32(clamping: left)) else {
        continue
      }
      // `PQgetResult` reports the error.
      if PQconsumeInput(connection) == 0 { return }
    }
  }

  /// Monotonic time in milliseconds.
  private static var now: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
  }
}
