package import Metering

/// What a page needs to know beside its data: who reads it, at which address, when and where.
package struct PageContext: Sendable {
  /// A query's parameter. The order is kept, and a name may come more than once.
  package typealias Parameter = (name: String, value: String)

  /// The prefix of every path, such as `/metering`; empty where there is none.
  package var basePath: String
  /// The path behind the prefix, percent-encoded as it was asked for.
  package var path: String
  package var query: [Parameter]
  package var zone: DisplayZone
  /// Milliseconds since 1970.
  package var now: Int64
  /// The origin for `curl` commands, such as `https://metering.example.com`, without the prefix.
  package var origin: String
  /// Nil where nobody is signed in.
  package var session: Session?
  /// Milliseconds since 1970.
  package var asOf: Int64?
  package var completeThrough: Int64?
  /// A random text of this showing of the page. Forms send it along, so that one that is sent twice
  /// does its work once.
  package var once = ""
  /// What the change before this page did; never part of an address that is shared.
  package var done: String?
  /// After how many seconds a page that could not be shown asks again.
  package var retrySeconds: Int?
  /// `light` or `dark`, where a customer's own pages must look so; nil follows the browser.
  package var theme: String?

  package struct Session: Sendable {
    /// The token's or the customer's name.
    package var name: String
    package var csrf: String
    package var scopes: Set<String>
    /// A customer's own pages, below `/portal`.
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

  /// Seconds between reloads of a page on a wall.
  package var refresh: Int? { value("refresh").flatMap { Int($0) }.map { min(max($0, 5), 3600) } }

  package func value(_ name: String) -> String? { query.first { $0.name == name }?.value }

  /// The address of a page. The zone goes along, so that it holds on every page that follows.
  package func url(_ path: String, _ parameters: [Parameter] = []) -> String {
    var parameters = parameters
    if !zone.isUTC, !parameters.contains(where: { $0.name == "time_zone" }) {
      parameters.append(("time_zone", zone.name))
    }
    return basePath + (isPortal ? "/portal" : "") + path + Self.text(parameters)
  }

  /// This page with other parameters; nil takes one away. A cursor belongs to the old ones.
  package func here(_ changes: [(name: String, value: String?)]) -> String {
    var parameters = query.filter { old in
      old.name != "cursor" && !changes.contains { $0.name == old.name }
    }
    for change in changes {
      if let value = change.value { parameters.append((change.name, value)) }
    }
    return basePath + path + Self.text(parameters)
  }

  /// The address of an endpoint of the API, which needs no zone of its own.
  package func api(_ path: String, _ parameters: [Parameter] = []) -> String {
    basePath + path + Self.text(parameters)
  }

  /// A text as one segment of a path.
  package static func segment(_ text: String) -> String { PercentText.encode(text) }

  static func text(_ parameters: [Parameter]) -> String {
    guard !parameters.isEmpty else { return "" }
    return "?"
      + parameters.map { "\(PercentText.encode($0.name))=\(PercentText.encode($0.value))" }
      .joined(separator: "&")
  }
}

/// Percent-encoding as RFC 3986 has it: all but the unreserved characters.
package enum PercentText {
  package static func encode(_ text: String) -> String {
    var bytes: [UInt8] = []
    let digits = Array("0123456789ABCDEF".utf8)
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
        UInt8(ascii: "_"), UInt8(ascii: "~"):
        bytes.append(byte)
      default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    // "." and ".." would be taken for steps of a path.
    if bytes == [0x2E] { return "%2E" }
    if bytes == [0x2E, 0x2E] { return "%2E%2E" }
    return String(decoding: bytes, as: UTF8.self)
  }
}
