import Metering

/// The rules for domain names. They are passed in, so that this library needs neither the suffix
/// list nor Unicode tables. `DomainNames` has both.
public protocol DomainNameRules: Sendable {
  /// A name of any script in its ASCII form by UTS #46, non-transitional and in lower case. Nil if
  /// it has none.
  func ascii(_ name: String) -> String?
  /// Whether the Public Suffix List has the name, in ASCII, as a suffix under which others register
  /// (`co.uk`, `github.io`). For names under no rule the list's default applies, by which the last
  /// label is a suffix.
  func isPublicSuffix(_ name: String) -> Bool
  /// The public suffix with one more label. Nil if there is no such label.
  func registrableDomain(_ name: String) -> String?
}

/// The place where an application runs. It is a name or an address in the one spelling that is
/// compared.
public struct DomainName: Sendable, Hashable, CustomStringConvertible {
  /// The name or address in lower case and ASCII, without trailing dot and port. An IPv6 address
  /// has no brackets.
  public let description: String
  /// Whether it is an IPv4 or IPv6 address and not a name.
  public let isAddress: Bool

  /// Returns nil if the text is neither a name nor an address. A name has 1 to 253 bytes, and
  /// labels of 1 to 63 letters, digits, hyphens and underscores. The value of a `Host` header is
  /// accepted, but a URL is not.
  ///
  /// Hosts that end in a number but are not plain addresses (`127.1`, `0x7f000001`) are refused,
  /// because some programs would read them as addresses.
  public init?(_ text: String, rules: some DomainNameRules) {
    guard (1...1_024).contains(text.utf8.count) else { return nil }
    if let address = Self.address(text) {
      description = address.description
      isAddress = true
      return
    }
    var name = Self.withoutPort(text)
    if name.hasSuffix(".") { name.removeLast() }
    var lower: [UInt8] = []
    lower.reserveCapacity(name.utf8.count)
    var needsRules = false
    for byte in name.utf8 {
      lower.append((0x41...0x5A).contains(byte) ? byte | 0x20 : byte)
      needsRules = needsRules || byte >= 0x80
    }
    // Punycode is checked too, because it could encode characters that no name may contain.
    if needsRules || Self.hasPunycode(lower) {
      guard let ascii = rules.ascii(String(decoding: lower, as: UTF8.self)) else { return nil }
      lower = Array(ascii.utf8)
      if lower.last == UInt8(ascii: ".") { lower.removeLast() }
    }
    guard Self.isName(lower) else { return nil }
    description = String(decoding: lower, as: UTF8.self)
    isAddress = false
  }

  /// Whether it is `localhost`, `*.localhost`, `*.test` or a loopback address, where developers run
  /// their programs.
  public var isLocal: Bool {
    if isAddress {
      guard let address = IPAddress(description) else { return false }
      return Self.loopback.contains { $0.contains(address) }
    }
    return description == "localhost" || description.hasSuffix(".localhost")
      || description == "test" || description.hasSuffix(".test")
  }

  /// The part that belongs to one owner. It is a name's registrable domain, an IPv4 address itself,
  /// or the /64 of an IPv6 address, which one machine may use as a whole.
  ///
  /// A suffix under which others register stands for itself.
  package func registrable(by rules: some DomainNameRules) -> String {
    guard isAddress else { return rules.registrableDomain(description) ?? description }
    guard let address = IPAddress(description), address.isV6 else { return description }
    return description.split(separator: ":").prefix(4).joined(separator: ":") + "::/64"
  }

  private static let loopback = ["127.0.0.0/8", "::1", "::ffff:127.0.0.0/104"].compactMap {
    AddressRange($0)
  }

  /// Reads addresses such as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` and `[2001:db8::1]:80`.
  private static func address(_ text: String) -> IPAddress? {
    // A name does not end in a digit, and it has no colon except before its port.
    guard let last = text.utf8.last,
      (0x30...0x39).contains(last) || text.utf8.contains(UInt8(ascii: ":"))
        || last == UInt8(ascii: "]")
    else { return nil }
    if text.hasPrefix("[") {
      guard let close = text.firstIndex(of: "]"), isPort(text[text.index(after: close)...]) else {
        return nil
      }
      let address = IPAddress(text[..<close].dropFirst())
      return address?.isV6 == true ? address : nil
    }
    return IPAddress(text) ?? IPAddress(withoutPort(text))
  }

  private static func withoutPort(_ text: String) -> Substring {
    guard let colon = text.lastIndex(of: ":"), isPort(text[colon...]),
      text.firstIndex(of: ":") == colon
    else { return Substring(text) }
    return text[..<colon]
  }

  /// Whether the text is empty, or `:` and a port as in RFC 3986. The digits may be missing.
  private static func isPort(_ text: Substring) -> Bool {
    if text.isEmpty { return true }
    let digits = text.dropFirst().utf8
    return text.hasPrefix(":") && digits.allSatisfy { (0x30...0x39).contains($0) }
      && (digits.isEmpty || UInt16(text.dropFirst()) != nil)
  }

  private static func hasPunycode(_ name: [UInt8]) -> Bool {
    name.split(separator: UInt8(ascii: ".")).contains { $0.starts(with: "xn--".utf8) }
  }

  static func isName(_ name: [UInt8]) -> Bool {
    guard (1...253).contains(name.count) else { return false }
    let labels = name.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    for label in labels {
      guard (1...63).contains(label.count), label.first != UInt8(ascii: "-"),
        label.last != UInt8(ascii: "-"),
        label.allSatisfy({
          (0x61...0x7A).contains($0) || (0x30...0x39).contains($0)
            || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_")
        })
      else { return false }
    }
    guard let last = labels.last else { return false }
    if last.allSatisfy({ (0x30...0x39).contains($0) }) { return false }
    return
      !(last.starts(with: "0x".utf8)
      && last.dropFirst(2).allSatisfy {
        (0x30...0x39).contains($0) || (0x61...0x66).contains($0)
      })
  }
}
