import Glibc

enum SocketWait {
  /// Waits until the socket can be read, or until the time is over.
  static func readable(_ socket: Int32, milliseconds: Int32) -> Bool {
    var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, milliseconds) > 0
  }
}
