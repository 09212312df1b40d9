package import Metering

/// An endpoint's URL, parsed by stricter rules than RFC 3986's. A text that two parsers could read
/// differently is refused, because the address that is checked must be the one that is connected
/// to. The request is made from the parts and never from the text.
package struct WebhookURL: Sendable, Hashable, CustomStringConvertible {
  package enum Refusal: Error, Sendable, Equatable, CustomStringConvertible {
    case length
    case character
    case scheme
    case plainHTTP
    case userInfo
    case fragment
    case host
    case numericHost
    case port
    case address(String)

    package var description: String {
      switch self {
      case .length: "a URL has at most 2,048 characters"
      case .character:
        "a URL holds printable ASCII only, no blank, quote, backslash, <, >, ^, `, {, |, }"
      case .scheme: "a URL begins with https://"
      case .plainHTTP: "plain http is refused unless METER_WEBHOOK_ALLOW_HTTP=true"
      case .userInfo: "a URL must not hold a user or password"
      case .fragment: "a URL must not hold a fragment"
      case .host: "the host must be a name of letters, digits and hyphens, or an address"
      case .numericHost: "a host of numbers must be a plain dotted IPv4 address"
      case .port: "the port must be 80, 443 or one above 1023 that no other protocol uses"
      case .address(let what): "the address is refused: \(what)"
      }
    }
  }

  package let isTLS: Bool
  /// The host in lower case without a trailing dot. An IPv6 address has no brackets here.
  package let host: String
  /// The address, if the host is an address.
  package let address: IPAddress?
  package let port: Int
  /// The path and the query. The text begins with `/`.
  package let pathAndQuery: String

  /// The URL as text, with path and query byte for byte as they were given.
  package var description: String {
    "\(isTLS ? "https" : "http")://\(authority)\(pathAndQuery)"
  }

  /// The request's `Host`. It contains the port only if that is not the scheme's default.
  package var authority: String {
    let name = address?.isV6 == true ? "[\(host)]" : host
    return port == (isTLS ? 443 : 80) ? name : "\(name):\(port)"
  }

  /// - Throws: `Refusal`. If the host is an address, the policy is checked here. Names are checked
  ///   when they are resolved.
  package init(
    _ text: String, policy: TargetAddressPolicy, allowsHTTP: Bool
  ) throws(Refusal) {
    guard (1...2_048).contains(text.utf8.count) else { throw .length }
    guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) && !Self.refusedBytes.contains($0) })
    else { throw .character }
    let rest: Substring
    let lowercased = text.lowercased()
    if lowercased.hasPrefix("https://") {
      isTLS = true
      rest = text.dropFirst(8)
    } else if lowercased.hasPrefix("http://") {
      guard allowsHTTP else { throw .plainHTTP }
      isTLS = false
      rest = text.dropFirst(7)
    } else {
      throw .scheme
    }
    if rest.contains("#") { throw .fragment }
    let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
    let authority = rest[..<end].lowercased()
    if authority.contains("@") { throw .userInfo }
    let (name, portText) = try Self.split(authority)
    (host, address) = try Self.host(name)
    port = try Self.port(portText, isTLS: isTLS)
    let tail = String(rest[end...])
    pathAndQuery = tail.hasPrefix("/") ? tail : "/" + tail
    if let address, let reason = policy.refusal(address) { throw .address(reason) }
  }

  private static let refusedBytes = Set("\"\\<>^`{|}".utf8)

  private static func split(
    _ authority: String
  ) throws(Refusal) -> (name: Substring, port: Substring?) {
    let text = Substring(authority)
    if text.hasPrefix("[") {
      guard let close = text.firstIndex(of: "]") else { throw .host }
      let after = text[text.index(after: close)...]
      guard after.isEmpty || after.hasPrefix(":") else { throw .host }
      return (text[...close], after.isEmpty ? nil : after.dropFirst())
    }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count <= 2 else { throw .host }
    return (parts[0], parts.count == 2 ? parts[1] : nil)
  }

  private static func host(_ name: Substring) throws(Refusal) -> (String, IPAddress?) {
    if name.hasPrefix("[") {
      guard let address = IPAddress(name.dropFirst().dropLast()), address.isV6 else { throw .host }
      return (address.description, address)
    }
    var text = name
    if text.hasSuffix(".") { text.removeLast() }
    guard (1...253).contains(text.utf8.count) else { throw .host }
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    for label in labels {
      // Underscores are not valid in host names but are in use. Some programs would decode a %.
      guard (1...63).contains(label.utf8.count),
        label.utf8.allSatisfy({
          (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || $0 == 0x2D || $0 == 0x5F
        }), label.first != "-", label.last != "-"
      else { throw .host }
    }
    guard let last = labels.last else { throw .host }
    // This is the rule "ends in a number" of the URL standard. Some programs read 127.1,
    // 2130706433, 0x7f.1 and 0177.0.0.1 as addresses.
    let isNumber =
      last.utf8.allSatisfy { (0x30...0x39).contains($0) }
      || (last.hasPrefix("0x") && last.dropFirst(2).allSatisfy(\.isHexDigit))
    if isNumber {
      guard let address = IPAddress(text), !name.hasSuffix(".") else { throw .numericHost }
      return (address.description, address)
    }
    return (String(text), nil)
  }

  private static func port(_ text: Substring?, isTLS: Bool) throws(Refusal) -> Int {
    guard let text else { return isTLS ? 443 : 80 }
    guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let port = Int(text), port == 80 || port == 443 || (1_024...65_535).contains(port),
      !refusedPorts.contains(port)
    else { throw .port }
    return port
  }

  /// The ports above 1023 from the Fetch standard's list of bad ports. An HTTP request can be
  /// misread by servers of these protocols.
  private static let refusedPorts: Set<Int> = [
    1_719, 1_720, 1_723, 2_049, 3_659, 4_045, 4_190, 5_060, 5_061, 6_000, 6_566, 6_665, 6_666,
    6_667, 6_668, 6_669, 6_679, 6_697, 10_080,
  ]
}
