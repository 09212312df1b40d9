import Crypto
import HTTPTypes
import Metering
import PostgresStore

/// Who asks.
struct Caller: Sendable, Equatable {
  enum Kind: Sendable, Equatable {
    case nobody
    /// An API token, by its id.
    case token(String)
    /// A person who signed in to the pages with a token, by the session's id.
    case pageSession(String)
    /// A customer who signed in to the portal by a link, by the session's id.
    case portalSession(String)
  }

  var kind: Kind
  /// Nil: the vendor's own, who sees every customer.
  var customerID: Identifier?
  var scopes: Set<String>

  static let nobody = Caller(kind: .nobody, customerID: nil, scopes: [])

  /// Who it is, for keys that belong to a caller.
  var name: String {
    switch kind {
    case .nobody: "nobody"
    case .token(let id): "token:" + id
    case .pageSession(let id): "page_session:" + id
    case .portalSession(let id): "portal_session:" + id
    }
  }

  func may(_ scope: TokenScope) -> Bool { scope.isGranted(by: scopes) }

  /// - Throws: 403 that names the scope.
  func require(_ scope: TokenScope) throws(Problem) {
    guard may(scope) else {
      throw Problem(
        .forbidden, "forbidden",
        "This needs a token with the scope \(scope.rawValue); meterctl token create makes one.")
    }
  }

  /// For what has no customer, such as the status of the whole installation.
  ///
  /// - Throws: 404 to tokens that are bound to a customer.
  func requireVendor() throws(Problem) {
    if customerID != nil { throw Problem.notFound }
  }

  /// - Throws: 404 where the caller is bound to another customer.
  func requireCustomer(_ id: Identifier?) throws(Problem) {
    if let customerID, customerID != id { throw Problem.notFound }
  }
}

/// Finds out who asks, by the header `Authorization`.
enum Access {
  /// - Parameter reads: whether the request changes nothing, so that a token that was known a moment
  ///   ago is known still.
  /// - Throws: 401 where there is no token, or one that does not hold (any more).
  static func caller(
    _ header: String?, _ context: APIContext, reads: Bool
  ) async throws -> Caller {
    guard let header, let token = bearer(header) else { throw Problem.unauthorized }
    let hash = Hexadecimal.text(Array(SHA256.hash(data: Array(token.utf8))))
    let found =
      reads
      ? try await context.tokens.caller(hash) { try await lookUp(hash, context.database) }
      : try await lookUp(hash, context.database)
    guard let found else { throw Problem.unauthorized }
    return found
  }

  private static func lookUp(_ hash: String, _ database: DatabasePool) async throws -> Caller? {
    let found = try await database.readOnce { connection in
      try AccessStore(connection).validTokens(hashes: [hash]).first
    }
    return found.map {
      Caller(kind: .token($0.tokenID), customerID: $0.customerID, scopes: $0.scopes)
    }
  }

  private static func bearer(_ header: String) -> Substring? {
    let parts = header.split(separator: " ", maxSplits: 1)
    guard parts.count == 2, parts[0].lowercased() == "bearer",
      (1...512).contains(parts[1].utf8.count), !parts[1].utf8.contains(0x20)
    else { return nil }
    return parts[1]
  }
}
