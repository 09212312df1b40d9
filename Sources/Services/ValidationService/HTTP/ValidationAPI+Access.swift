import Crypto
import Metering
import NIOHTTP1
import PostgresStore
import ServiceRuntime

/// Finds out who the caller is, what the token allows, and what is known about a license.
extension ValidationAPI {
  func license(
    _ id: Identifier, _ gathered: Gathered
  ) throws -> LicenseDirectory.Licenses.Lookup {
    // No license has such a long id, and requested ids are kept in memory.
    if id.utf8.count > Limits.subjectBytes { return .missing }
    if let cached = directory.licenses.cached(id) { return cached }
    guard let lookup = gathered.licenses[id] else { throw Need.licenses([id]) }
    return lookup
  }

  /// Nil without `Authorization`.
  func authenticate(
    _ fields: RequestFields, _ gathered: Gathered
  ) throws -> AccessStore.TokenRow? {
    guard let header = fields.authorization else { return nil }
    guard (8...512).contains(header.utf8.count), header.lowercased().hasPrefix("bearer ") else {
      throw Problem.unauthorized
    }
    // One or more spaces separate the scheme from the token (RFC 9110, section 11.4).
    let secret = Array(header.utf8.dropFirst(7).drop { $0 == 0x20 })
    let hash = Hexadecimal.text(Array(SHA256.hash(data: secret)))
    guard let lookup = directory.tokens.cached(hash) ?? gathered.token else {
      throw Need.token(hash)
    }
    switch lookup {
    case .found(let token):
      if let end = token.expiresAt, end <= WallClock.milliseconds { throw Problem.unauthorized }
      return token
    case .missing: throw Problem.unauthorized
    case .unavailable: throw Problem.unavailable("Tokens cannot be checked now. Try again.")
    }
  }

  /// - Throws: `Problem` with status 401 or 403.
  func require(_ scope: TokenScope, of token: AccessStore.TokenRow?) throws {
    guard let token else { throw Problem.unauthorized }
    guard scope.isGranted(by: token.scopes) else {
      throw Problem(
        status: .forbidden, code: "missing_scope",
        detail: "The token needs the scope \(scope.rawValue).")
    }
  }
}
