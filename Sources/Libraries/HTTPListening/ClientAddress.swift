package import Metering
package import NIOCore

/// Finds out the client's address of a request.
package struct ClientAddress: Sendable {
  /// How much of an address goes into events.
  package enum Detail: String, Sendable, CaseIterable {
    case full
    /// IPv4 is cut to /24 and IPv6 to /48. That is enough for a country and too little for a
    /// person.
    case truncated
    case off
  }

  /// An address, and the part of it that goes into events.
  package struct Client: Sendable {
    package var address: IPAddress?
    package var text: String?
    /// Whether it is a proxy whose statement about the client is trusted.
    package var isTrustedProxy: Bool

    /// The group whose share the client uses. Nil if the address is not known.
    package var group: AddressGroup? { address.map { AddressGroup($0) } }
  }

  /// The proxies whose `X-Forwarded-For` is trusted.
  package var trustedProxies: [AddressRange]
  package var detail: Detail

  package init(trustedProxies: [AddressRange], detail: Detail) {
    self.trustedProxies = trustedProxies
    self.detail = detail
  }

  /// The client at the other end. It is asked once for each connection.
  package func client(_ peer: SocketAddress?) -> Client { client(Self.address(peer)) }

  /// The client that sends the request, which is the nearest address that is not a trusted proxy.
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

  /// Reads an address of a list, such as `203.0.113.9`, `203.0.113.9:4711`, `2001:db8::1`,
  /// `[2001:db8::1]` or `[2001:db8::1]:4711`, with blanks around it. Returns nil if it is not an
  /// address.
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
    // A single colon comes after an IPv4 address. More colons belong to an IPv6 address.
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

  /// Converts IPv4 within IPv6 to IPv4.
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
