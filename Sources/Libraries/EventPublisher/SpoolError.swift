import Foundation

/// Why a spool cannot be opened or used. The description is one line that also says what to do.
public enum SpoolError: Error, Sendable, Equatable, CustomStringConvertible {
  /// Another process has it open.
  case inUse(String)
  /// A system call failed. The values are what was tried, and `errno`.
  case system(String, Int32)
  /// A file has contents that this program does not write.
  case damaged(String)
  /// A setting cannot work.
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
