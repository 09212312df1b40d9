package import Metering

/// Decides to which addresses webhooks may be sent. These are the public internet, and the ranges
/// that the operator allows.
///
/// Customers choose the URLs, and the dispatcher runs within the operator's network. Without this
/// policy, customers could make it call anything there (server-side request forgery).
package struct TargetAddressPolicy: Sendable {
  private let allowed: [AddressRange]

  package struct Invalid: Error, Sendable, CustomStringConvertible {
    package let description: String
  }

  package init(allowed: [AddressRange] = []) { self.allowed = allowed }

  /// - Parameter cidrs: ranges, separated by commas, as in `METER_WEBHOOK_ALLOW_CIDRS`.
  package init(cidrs: String) throws(Invalid) {
    var ranges: [AddressRange] = []
    for part in cidrs.split(separator: ",") {
      let text = part.filter { $0 != " " }
      guard let range = AddressRange(text) else {
        throw Invalid(
          description: "METER_WEBHOOK_ALLOW_CIDRS must be ranges such as 10.1.0.0/16,fd00::/8")
      }
      ranges.append(range)
    }
    allowed = ranges
  }

  /// Returns nil if the address is allowed, and otherwise a word for its kind.
  ///
  /// An IPv6 address that carries an IPv4 one (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is
  /// refused if the inner one is refused. Apart from that, an IPv6 address is allowed only if it is
  /// global unicast (2000::/3) and in none of the special ranges.
  package func refusal(_ address: IPAddress) -> String? {
    if allowed.contains(where: { $0.contains(address) }) { return nil }
    for inner in Self.embedded(in: address) {
      if allowed.contains(where: { $0.contains(inner) }) { return nil }
    }
    let table = address.isV6 ? Self.refusedV6 : Self.refusedV4
    for (range, name) in table where range.contains(address) { return name }
    guard address.isV6 else { return nil }
    for inner in Self.embedded(in: address) {
      if let name = refusal(inner) { return name }
    }
    return Self.globalUnicast.contains(address) || Self.nat64.contains(address)
      ? nil : "not global unicast"
  }

  /// Returns the first address that is refused, with the reason. One refused address makes the
  /// whole answer refused, because an answer that mixes public and private addresses is probably an
  /// attack.
  package func refusal(ofAny addresses: [IPAddress]) -> (address: IPAddress, reason: String)? {
    for address in addresses {
      if let reason = refusal(address) { return (address, reason) }
    }
    return nil
  }

  private static func range(_ text: String) -> AddressRange {
    guard let range = AddressRange(text) else { preconditionFailure("\(text) is no range") }
    return range
  }

  private static func table(_ entries: [(String, String)]) -> [(AddressRange, String)] {
    entries.map { (range($0.0), $0.1) }
  }

  /// IANA's special-purpose registry of IPv4, and multicast.
  private static let refusedV4 = table([
    ("0.0.0.0/8", "this network"), ("10.0.0.0/8", "private"), ("100.64.0.0/10", "shared (CGNAT)"),
    ("127.0.0.0/8", "loopback"), ("169.254.0.0/16", "link-local (metadata)"),
    ("172.16.0.0/12", "private"), ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"), ("192.31.196.0/24", "AS112"), ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relay"), ("192.168.0.0/16", "private"), ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"), ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"), ("224.0.0.0/4", "multicast"), ("240.0.0.0/4", "reserved"),
    // Some clouds serve their metadata on these public addresses.
    ("168.63.129.16/32", "metadata"), ("100.100.100.200/32", "metadata"),
  ])

  private static let refusedV6 = table([
    ("::/128", "unspecified"), ("::1/128", "loopback"), ("100::/64", "discard"),
    ("fc00::/7", "unique local"), ("fe80::/10", "link-local"), ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"), ("64:ff9b:1::/48", "local NAT64"), ("2001:2::/48", "benchmarking"),
    ("2001:10::/28", "ORCHID"), ("2001:20::/28", "ORCHID"), ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"), ("2620:4f:8000::/48", "AS112"), ("5f00::/16", "SRv6"),
  ])

  private static let globalUnicast = range("2000::/3")
  private static let nat64 = range("64:ff9b::/96")
  private static let mapped = range("::ffff:0:0/96")
  private static let compatible = range("::/96")
  private static let translated = range("::ffff:0:0:0/96")
  private static let sixToFour = range("2002::/16")
  private static let teredo = range("2001::/32")

  /// The IPv4 addresses that packets to this one may end at.
  private static func embedded(in address: IPAddress) -> [IPAddress] {
    guard address.isV6 else { return [] }
    let b = address.bytes
    func v4(_ bytes: some Sequence<UInt8>) -> [IPAddress] {
      IPAddress(bytes: Array(bytes)).map { [$0] } ?? []
    }
    if [mapped, compatible, translated, nat64].contains(where: { $0.contains(address) }) {
      return v4(b[12...])
    }
    if sixToFour.contains(address) { return v4(b[2..<6]) }
    // These are the server's address, and the client's address with every bit flipped (RFC 4380).
    if teredo.contains(address) { return v4(b[4..<8]) + v4(b[12...].map { ~$0 }) }
    // In ISATAP (RFC 5214), the interface is [02]00:5efe and the address.
    if b[8] & 0xFD == 0, b[9] == 0, b[10] == 0x5E, b[11] == 0xFE { return v4(b[12...]) }
    return []
  }
}
