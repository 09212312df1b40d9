package import Metering
package import NIOCore

/// Whose request it is, by address.
package struct ClientAddress: Sendable {
  /// How much of an address goes into events.
  package enum Detail: String, Sendable, CaseIterable {
    case full
    /// IPv4 to /24, IPv6 to /48: enough for a country, too little for a person.
    case truncated
    case off
  }

  /// An address, and what of it goes into events.
  package struct Client: Sendable {
    package var address: IPAddress?
    package var text: String?
    /// Whose word on whom it asks for is believed.
    package var isTrustedProxy: Bool

    /// Whom the client counts to where clients have shares; nil where the address is not known.
    package var group: AddressGroup? { address.map { AddressGroup($0) } }
  }

  /// Proxies whose `X-Forwarded-For` is believed.
  package var trustedProxies: [AddressRange]
  package var detail: Detail

  package init(trustedProxies: [AddressRange], detail: Detail) {
    self.trustedProxies = trustedProxies
    self.detail = detail
  }

  /// Who is at the other end; asked once a connection.
  package func client(_ peer: SocketAddress?) -> Client { client(Self.address(peer)) }

  /// Who asks: the address nearest to us that is no trusted proxy.
  package func resolve(_ peer: Client, forwardedFor: String?) -> Client {
    guard peer.isTrustedProxy, let forwardedFor else { return peer }
    var found = peer
    for hop in forwardedFor.split(separator: ",").reversed() {
      guard let next = Self.hop(hop) else { break }
      found = client(next)
      if !found.isTrustedProxy { break }
    }
    return found
  }

  private func client(_ address: IPAddress?) -> Client {
    Client(
      address: address, text: text(address),
      isTrustedProxy: address.map { isTrusted($0) } ?? false)
  }

  private func isTrusted(_ address: IPAddress) -> Bool {
    trustedProxies.contains { $0.contains(address) }
  }

  private static func address(_ peer: SocketAddress?) -> IPAddress? {
    peer?.ipAddress.flatMap { IPAddress($0) }.flatMap(plain)
  }

  /// An address of a list: `203.0.113.9`, `203.0.113.9:4711`, `2001:db8::1`, `[2001:db8::1]` or
  /// `[2001:db8::1]:4711`, with blanks around it. Nil: it is none.
  package static func hop(_ text: Substring) -> IPAddress? {
    func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" }
    var text = text.drop(while: isBlank)
    while let last = text.last, isBlank(last) { text.removeLast() }
    if text.first == "[" {
      guard let end = text.firstIndex(of: "]") else { return nil }
      let rest = text[text.index(after: end)...]
      guard rest.isEmpty || (rest.first == ":" && isPort(rest.dropFirst())) else { return nil }
      let inner = IPAddress(text[text.index(after: text.startIndex)..<end])
      return inner?.isV6 == true ? inner.flatMap(plain) : nil
    }
    // One colon: behind an IPv4 address. More of them belong to an IPv6 address.
    if let colon = text.firstIndex(of: ":"), text.lastIndex(of: ":") == colon {
      guard isPort(text[text.index(after: colon)...]) else { return nil }
      text = text[..<colon]
    }
    return IPAddress(text).flatMap(plain)
  }

  private static func isPort(_ text: Substring) -> Bool {
    (1...5).contains(text.utf8.count) && text.utf8.allSatisfy { (0x30...0x39).contains($0) }
      && UInt16(text) != nil
  }

  /// IPv4 in IPv6 is IPv4.
  private static func plain(_ address: IPAddress) -> IPAddress? {
    let bytes = address.bytes
    if bytes.count == 16, bytes[..<10].allSatisfy({ $0 == 0 }), bytes[10] == 0xFF, bytes[11] == 0xFF
    {
      return IPAddress(bytes: Array(bytes[12...]))
    }
    return address
  }

  private func text(_ address: IPAddress?) -> String? {
    guard let address else { return nil }
    switch detail {
    case .off: return nil
    case .full: return address.description
    case .truncated:
      let kept = address.isV6 ? 6 : 3
      return IPAddress(
        bytes: Array(address.bytes[..<kept])
          + Array(repeating: 0, count: address.bytes.count - kept))?.description
    }
  }
}
