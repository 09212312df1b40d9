import Crypto
import Foundation
import HTTPTypes
import Metering
import PostgresStore
import SystemRandom

/// A person's session in the vendor's pages or in the customer portal.
struct PageSession: Sendable {
  enum Kind: Sendable {
    case vendor
    case portal

    /// The two kinds of session use different cookies, so that neither signs in to the other.
    var cookieName: String { self == .vendor ? "meter_session" : "meter_portal" }
    /// The path of the first page, after the base path.
    var root: String { self == .vendor ? "/" : "/portal" }
  }

  let kind: Kind
  let caller: Caller
  let name: String
  /// The token that forms carry. It is derived from the session's secret.
  let csrf: String
  /// The licenses that a portal session may see. Nil stands for all licenses of the customer.
  var licenses: Set<Identifier>?
  var theme: String?
  var returnURL: String?

  static let lifetimeSeconds: Int64 = 12 * 3_600

  init(_ session: SessionStore.PageSession) {
    kind = .vendor
    caller = Caller(
      kind: .pageSession(session.id), customerID: session.token.customerID,
      scopes: session.token.scopes)
    name = session.tokenName
    csrf = Self.csrf(session.csrfSecret)
  }

  init?(_ session: SessionStore.PortalSession, name: String) {
    guard let secret = session.csrfSecret else { return nil }
    kind = .portal
    var scopes: Set<String> = ["usage:read", "licenses:read"]
    // A session that may see only some licenses must not see data about the whole customer.
    if session.licenseIDs == nil {
      scopes.formUnion(["billing:read", "webhooks:read"])
      if !session.isReadOnly { scopes.insert("webhooks:write") }
    }
    caller = Caller(
      kind: .portalSession(session.id), customerID: session.customerID, scopes: scopes)
    self.name = name
    csrf = Self.csrf(secret)
    licenses = session.licenseIDs.map(Set.init)
    theme = session.theme == "auto" ? nil : session.theme
    returnURL = session.returnURL
  }

  private static func csrf(_ secret: [UInt8]) -> String {
    let code = HMAC<SHA256>.authenticationCode(
      for: Array("form".utf8), using: SymmetricKey(data: secret))
    return Hexadecimal.text(Array(code))
  }

  /// Whether a form came from a page of this session.
  func accepts(csrf given: String?) -> Bool {
    guard let given, given.utf8.count == csrf.utf8.count else { return false }
    var difference: UInt8 = 0
    for (a, b) in zip(given.utf8, csrf.utf8) { difference |= a ^ b }
    return difference == 0
  }

  /// Finds the session of a request's cookie. Returns nil if there is none, or if it has ended.
  static func find(_ kind: Kind, _ request: APIRequest) async throws -> PageSession? {
    guard let cookie = cookie(kind.cookieName, request.headers) else { return nil }
    let hash = hash(cookie)
    return try await request.context.database.access { connection -> PageSession? in
      let store = SessionStore(connection)
      switch kind {
      case .vendor: return try store.pageSession(cookieHash: hash).map(PageSession.init(_:))
      case .portal:
        return try store.portalSession(cookieHash: hash).flatMap {
          PageSession($0, name: $0.customerID.string)
        }
      }
    }
  }

  // MARK: Cookies

  static func cookie(_ name: String, _ headers: HTTPFields) -> String? {
    for field in headers[values: .cookie] {
      for part in field.split(separator: ";") {
        let sides = part.split(separator: "=", maxSplits: 1)
        guard sides.count == 2, sides[0].trimmingPrefix(" ") == name else { continue }
        let value = sides[1].filter { $0 != "\"" && $0 != " " }
        if (1...200).contains(value.utf8.count) { return value }
      }
    }
    return nil
  }

  /// The secrets of a new session: the cookie's value and the secret of its forms.
  struct Secrets: Sendable {
    let cookie = SystemRandom.hexadecimal(bytes: 32)
    let csrf = SystemRandom.bytes(32)
    var cookieHash: String { PageSession.hash(cookie) }
  }

  static func hash(_ text: String) -> String {
    Hexadecimal.text(Array(SHA256.hash(data: Array(text.utf8))))
  }

  /// The header that sets a cookie, or deletes it if the value is nil.
  static func setCookie(_ value: String?, _ kind: Kind, _ request: APIRequest) -> String {
    let base = request.context.settings.basePath
    let path = kind == .vendor ? (base.isEmpty ? "/" : base) : base + "/portal"
    var text = "\(kind.cookieName)=\(value ?? ""); Path=\(path); HttpOnly; SameSite=Strict"
    if value == nil { text += "; Max-Age=0" }
    return isLoopback(request) ? text : text + "; Secure"
  }

  /// Whether the request comes from the same machine. Browsers send a `Secure` cookie only over
  /// HTTPS, which a local trial does not have.
  private static func isLoopback(_ request: APIRequest) -> Bool {
    if request.context.settings.tls != nil { return false }
    if let url = request.context.settings.publicURL {
      return url.hasPrefix("http://localhost")
        || url.hasPrefix("http://127.0.0.1") || url.hasPrefix("http://[::1]")
    }
    let host = PageVisit.host(request) ?? ""
    return ["localhost", "127.0.0.1", "[::1]"].contains { host == $0 || host.hasPrefix($0 + ":") }
  }
}
