internal import CLibPQ
import Metering

/// Checks the value of `METER_DATABASE_URL`: a libpq URI or keyword string.
package enum DatabaseURL {
  /// Says in one sentence why a URL can never connect; nil if it may. The sentence quotes nothing
  /// of the URL.
  ///
  /// libpq's own messages about a text that it cannot parse quote it, including the password. A
  /// host with an `@` is the rest of a password whose own `@` was not escaped.
  package static func problem(_ url: String) -> String? {
    var message: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &message) else {
      PQfreemem(message)
      return malformed
    }
    defer { PQconninfoFree(options) }
    var option = options
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val,
        let problem = problem(String(cString: keyword), String(cString: value))
      {
        return problem
      }
      option += 1
    }
    return nil
  }

  static let malformed = "METER_DATABASE_URL is not a valid libpq URI"

  private static let sslModes: Set<String> = [
    "disable", "allow", "prefer", "require", "verify-ca", "verify-full",
  ]

  private static func problem(_ keyword: String, _ value: String) -> String? {
    switch keyword {
    case "host": return value.contains("@") ? malformed : nil
    case "port":
      // Each of several hosts may have a port. An empty one is the default.
      let ports = value.split(separator: ",", omittingEmptySubsequences: false)
      let areValid = ports.allSatisfy { $0.isEmpty || (UInt16($0) ?? 0) > 0 }
      return areValid ? nil : malformed + ": its port is not a number from 1 to 65535"
    case "sslmode":
      return sslModes.contains(value) ? nil : malformed + ": libpq has no such sslmode"
    case "connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count":
      return Int32(value) != nil ? nil : malformed + ": \(keyword) is not a number"
    default: return nil
    }
  }
}

/// Finds out why a server that answers refuses the connection, from what it says before a session
/// has a SQLSTATE.
enum ConnectRefusal {
  case password
  case unknownRole
  case notAllowed
  case unknownDatabase

  init?(message: String) {
    func says(_ words: String) -> Bool { message.contains(words) }
    if says("password authentication failed") || says("no password supplied") {
      self = .password
    } else if says("no pg_hba.conf entry") || says("is not permitted to log in")
      || says("authentication failed")
    {
      self = .notAllowed
    } else if says("role \""), says("does not exist") {
      self = .unknownRole
    } else if says("database \""), says("does not exist") {
      self = .unknownDatabase
    } else {
      return nil
    }
  }

  var sqlState: String {
    switch self {
    case .password: SQLState.wrongPassword
    case .unknownRole, .notAllowed: SQLState.notAllowed
    case .unknownDatabase: SQLState.unknownDatabase
    }
  }
}

extension PostgresError {
  /// One sentence that says why the server refuses the connection; nil if it did not refuse.
  package var refusal: String? {
    guard operation == "connect" else { return nil }
    switch sqlState {
    case SQLState.wrongPassword:
      return "PostgreSQL refuses the password, so METER_DATABASE_URL needs the right one"
    case SQLState.notAllowed:
      return "PostgreSQL does not let this user in, so METER_DATABASE_URL must name another one"
    case SQLState.unknownDatabase:
      return "PostgreSQL has no such database, so METER_DATABASE_URL must name one that exists"
    default: return nil
    }
  }
}
