package import Metering

/// What a page must know in addition to its data: its reader, its address, the time and the zone.
package struct PageContext: Sendable {
  /// A parameter of the query. The order is kept, and a name may occur more than once.
  package typealias Parameter = (name: String, value: String)

  /// The prefix of every path, such as `/metering`; empty if there is none.
  package var basePath: String
  /// The path after the prefix, percent-encoded as it was requested.
  package var path: String
  package var query: [Parameter]
  package var zone: DisplayZone
  /// Milliseconds since 1970.
  package var now: Int64
  /// The origin for `curl` commands without the prefix, such as `https://metering.example.com`.
  package var origin: String
  /// Nil if nobody is signed in.
  package var session: Session?
  /// Milliseconds since 1970.
  package var asOf: Int64?
  package var completeThrough: Int64?
  /// A random text for this showing of the page. Forms send it, so that a form that is sent twice
  /// does its work once.
  package var once = ""
  /// What the change before this page did. It is never part of an address that can be shared.
  package var done: String?
  /// The form of this page that was refused by the change before it.
  package var refused: RefusedForm?
  /// The seconds after which a page that could not be shown tries again.
  package var retrySeconds: Int?
  /// `light` or `dark` if a customer's own pages must look so. Nil follows the browser.
  package var theme: String?

  package struct Session: Sendable {
    /// The token's or the customer's name.
    package var name: String
    package var csrf: String
    package var scopes: Set<String>
    /// Whether this is a customer's own page, below `/portal`.
    package var isPortal: Bool
    /// The customer that a token is bound to.
    package var customer: String?
    package var returnURL: String?

    package init(
      name: String, csrf: String, scopes: Set<String>, isPortal: Bool = false,
      customer: String? = nil, returnURL: String? = nil
    ) {
      self.name = name
      self.csrf = csrf
      self.scopes = scopes
      self.isPortal = isPortal
      self.customer = customer
      self.returnURL = returnURL
    }
  }

  package init(
    basePath: String, path: String, query: [Parameter], zone: DisplayZone, now: Int64,
    origin: String, session: Session?
  ) {
    self.basePath = basePath
    self.path = path
    self.query = query
    self.zone = zone
    self.now = now
    self.origin = origin
    self.session = session
  }

  package var isPortal: Bool { session?.isPortal ?? false }

  /// Whether the reader may do what a scope allows. Forms that would be refused are left out.
  package func may(_ scope: TokenScope) -> Bool {
    session.map { scope.isGranted(by: $0.scopes) } ?? false
  }

  /// The seconds between reloads of a page on a wall display.
  package var refresh: Int? { value("refresh").flatMap { Int($0) }.map { min(max($0, 5), 3600) } }

  package func value(_ name: String) -> String? { query.first { $0.name == name }?.value }

  /// The parameters of the address with these names that are not empty.
  package func filters(_ names: [String]) -> [Parameter] {
    names.compactMap { name in value(name).flatMap { $0.isEmpty ? nil : (name, $0) } }
  }

  /// The address of a page. The zone is part of it, so that it applies to every page that follows.
  package func url(_ path: String, _ parameters: [Parameter] = []) -> String {
    var parameters = parameters
    if !zone.isUTC, !parameters.contains(where: { $0.name == "time_zone" }) {
      parameters.append(("time_zone", zone.name))
    }
    // The first page of the portal is `/portal` without a slash at its end.
    let place = isPortal ? "/portal" + (path == "/" ? "" : path) : path
    return basePath + place + Self.text(parameters)
  }

  /// This page with other parameters. Nil removes one. A cursor is removed, because it belongs to
  /// the old parameters.
  package func here(_ changes: [(name: String, value: String?)]) -> String {
    var parameters = query.filter { old in
      old.name != "cursor" && !changes.contains { $0.name == old.name }
    }
    for change in changes {
      if let value = change.value { parameters.append((change.name, value)) }
    }
    return basePath + path + Self.text(parameters)
  }

  /// The address of an endpoint of the API, which needs no zone.
  package func api(_ path: String, _ parameters: [Parameter] = []) -> String {
    basePath + path + Self.text(parameters)
  }

  /// The address below which the session of the pages may read an endpoint of the API as CSV. The
  /// endpoint itself accepts only a token, which a link cannot send.
  package func csv(_ path: String, _ parameters: [Parameter] = []) -> String {
    basePath + "/csv" + path.dropFirst("/v1".count) + Self.text(parameters)
  }

  /// A text as one segment of a path.
  package static func segment(_ text: String) -> String { PercentEncoding.encode(text) }

  static func text(_ parameters: [Parameter]) -> String {
    guard !parameters.isEmpty else { return "" }
    return "?"
      + parameters.map { "\(PercentEncoding.encode($0.name))=\(PercentEncoding.encode($0.value))" }
      .joined(separator: "&")
  }
}
