import Foundation

/// Why a spool cannot be opened or used; one line, with what to do.
public enum SpoolError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Another process has it open.
  case inUse(String)
  /// A call of the system failed: what was tried, and `errno`.
  case system(String, Int32)
  /// A file that is not what this program writes.
  case damaged(String)
  /// A setting that cannot work.
  case settings(String)

  /// One line.
  public var description: String {
    switch self {
    case .inUse(let path):
      "the spool \(path) is in use by another process. Give each process its own directory"
    case .system(let what, let code): "spool: cannot \(what): \(String(cString: strerror(code)))"
    case .damaged(let what): "spool: \(what)"
    case .settings(let what): what
    }
  }
}
