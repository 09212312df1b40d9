import CLibPQ
import Glibc

/// Waiting for answers, within a time.
///
/// libpq's own calls wait for as long as the connection stands. The server ends a statement by
/// `statement_timeout` and says so; but a proxy or a middlebox between may swallow that, and go on
/// to acknowledge what TCP asks. Then nobody would ever wake the thread.
extension PostgresConnection {
  /// As `PQexec`: the last result, or the first that begins a COPY.
  ///
  /// - Parameter sent: what libpq said to the sending of the statement.
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

  /// The next result of the command under way; nil once there is none.
  func nextAnswer() -> OpaquePointer? {
    awaitAnswer()
    return PQgetResult(connection)
  }

  /// Waits until libpq has the next result, so that `PQgetResult` does not wait. Where the time is
  /// over, the connection is shut down, which libpq then finds to be lost.
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
      // What it fails with, `PQgetResult` tells.
      if PQconsumeInput(connection) == 0 { return }
    }
  }

  /// Monotonic milliseconds.
  private static var now: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
  }
}
