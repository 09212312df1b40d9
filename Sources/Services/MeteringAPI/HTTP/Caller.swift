import Crypto
import HTTPTypes
import Metering
import PostgresStore

/// The caller of a request.
struct Caller: Sendable, Equatable {
  enum Kind: Sendable, Equatable {
    case nobody
    /// An API token, with its id.
    case token(String)
    /// A person who signed in to the pages with a token, with the session's id.
    case pageSession(String)
    /// A customer who signed in to the portal with a link, with the session's id.
    case portalSession(String)
  }

  var kind: Kind
  /// Nil for the vendor's own caller, who sees every customer.
  var customerID: Identifier?
  var scopes: Set<String>

  static let nobody = Caller(kind: .nobody, customerID: nil, scopes: [])

  /// A unique name of the caller, for keys that belong to a caller.
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
    guard may(scope) else { throw Problem(.forbidden, "forbidden", refusal(scope)) }
  }

  /// Says to the person who reads it what to do about a missing scope.
  private func refusal(_ scope: TokenScope) -> String {
    switch kind {
    case .nobody, .token:
      "The token needs the scope \(scope.rawValue). Make one with: meterctl token create"
    case .pageSession:
      "The token that you signed in with needs the scope \(scope.rawValue) for this. Sign out, and "
        + "sign in with a token that has it. This command makes one: meterctl token create"
    case .portalSession:
      "The link that you signed in with does not allow this. Ask whoever sent it to you for another "
        + "one."
    }
  }

  /// Checks access to what belongs to no customer, such as the status of the whole installation.
  ///
  /// - Throws: 404 if the caller is bound to a customer.
  func requireVendor() throws(Problem) {
    if customerID != nil { throw Problem.notFound }
  }

  /// - Throws: 404 if the caller is bound to another customer.
  func requireCustomer(_ id: Identifier?) throws(Problem) {
    if let customerID, customerID != id { throw Problem.notFound }
  }
}

/// Finds the caller by the header `Authorization`.
enum Access {
  /// - Parameter reads: whether the request changes nothing. Then a token that was valid a moment
  ///   ago needs no new look-up.
  /// - Throws: 401 if there is no token, or if the token is not valid.
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
    let found = try await database.access { connection in
      try AccessStore(connection).validTokens(hashes: [hash]).first
    }
    return found.map {
      Caller(kind: .token($0.tokenID), customerID: $0.customerID, scopes: $0.scopes)
    }
  }

  private static func bearer(_ header: String) -> Substring? {
    // RFC 9110 lets more than one blank stand between the scheme and the token.
    let parts = header.split(separator: " ")
    guard parts.count == 2, parts[0].lowercased() == "bearer",
      (1...512).contains(parts[1].utf8.count)
    else { return nil }
    return parts[1]
  }
}
