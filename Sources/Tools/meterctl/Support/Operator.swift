import Administration
import Glibc
import PostgresStore
import ServiceRuntime

extension Connections {
  /// The person who makes changes with `meterctl`: the account of the operating system. The audit
  /// log keeps its name.
  func administrator(_ command: String) throws -> Administrator {
    Administrator(try database(command), by: Self.operatorContext)
  }

  static let operatorContext = AuditContext(
    actorKind: .operator, actorID: accountName, userAgent: BuildInfo.line("meterctl"))

  private static var accountName: String {
    let id = getuid()
    guard let entry = getpwuid(id) else { return "uid \(id)" }
    return String(cString: entry.pointee.pw_name)
  }
}
