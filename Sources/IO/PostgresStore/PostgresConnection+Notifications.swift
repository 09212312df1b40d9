import CLibPQ

extension PostgresConnection {
  /// A NOTIFY that was received.
  package struct Notification: Sendable, Equatable {
    package let channel: String
    package let payload: String
  }

  /// Waits up to `milliseconds` for a NOTIFY on a channel that was LISTENed to. Returns those
  /// received, in order.
  package func notifications(
    waitMilliseconds: Int32
  ) throws(PostgresError) -> [Notification] {
    var heard: [Notification] = []
    func collect() {
      while let notify = PQnotifies(connection) {
        heard.append(
          Notification(
            channel: String(cString: notify.pointee.relname),
            payload: String(cString: notify.pointee.extra)))
        PQfreemem(notify)
      }
    }
    guard PQconsumeInput(connection) == 1 else { throw failure("listen") }
    collect()
    if heard.isEmpty {
      _ = SocketWait.readable(PQsocket(connection), milliseconds: waitMilliseconds)
      guard PQconsumeInput(connection) == 1 else { throw failure("listen") }
      collect()
    }
    return heard
  }
}
