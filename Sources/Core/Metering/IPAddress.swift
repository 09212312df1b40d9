/// An IPv4 or IPv6 address by its bytes. Parsing accepts only the strict spellings that resolvers
/// and careful writers use.
package struct IPAddress: Sendable, Hashable, CustomStringConvertible {
  /// 4 or 16 of them.
  package let bytes: [UInt8]

  package init?(bytes: [UInt8]) {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    self.bytes = bytes
  }

  /// Reads a dotted quad of four decimal numbers without leading zeros, or RFC 4291 text without a
  /// zone.
  package init?(_ text: some StringProtocol) {
    if let v4 = Self.quad(text) {
      bytes = v4
    } else if let v6 = Self.groups(text) {
      bytes = v6
    } else {
      return nil
    }
  }

  package var isV6: Bool { bytes.count == 16 }

  package var description: String {
    if !isV6 { return bytes.map(String.init).joined(separator: ".") }
    return stride(from: 0, to: 16, by: 2).map {
      String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16)
    }.joined(separator: ":")
  }

  private static func quad(_ text: some StringProtocol) -> [UInt8]? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
      guard (1...3).contains(part.utf8.count),
        part.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
        // A leading zero is octal to some and decimal to others, so it is refused.
        part.utf8.count == 1 || part.utf8.first != UInt8(ascii: "0"), let byte = UInt8(part)
      else { return nil }
      bytes.append(byte)
    }
    return bytes
  }

  private static func groups(_ text: some StringProtocol) -> [UInt8]? {
    // The longest text of an address has 45 bytes.
    guard (2...45).contains(text.utf8.count), text.contains(":") else { return nil }
    let halves = split(Array(text.utf8))
    guard halves.count <= 2, let head = bytes(halves[0], isLast: halves.count == 1) else {
      return nil
    }
    if halves.count == 1 { return head.count == 16 ? head : nil }
    guard let tail = bytes(halves[1], isLast: true), head.count + tail.count <= 14 else {
      return nil
    }
    return head + Array(repeating: 0, count: 16 - head.count - tail.count) + tail
  }

  /// Splits the text at every `::`.
  private static func split(_ text: [UInt8]) -> [[UInt8]] {
    let colon = UInt8(ascii: ":")
    var parts: [[UInt8]] = [[]]
    var i = 0
    while i < text.count {
      if text[i] == colon, i + 1 < text.count, text[i + 1] == colon {
        parts.append([])
        i += 2
      } else {
        parts[parts.count - 1].append(text[i])
        i += 1
      }
    }
    return parts
  }

  private static func bytes(_ text: [UInt8], isLast: Bool) -> [UInt8]? {
    if text.isEmpty { return [] }
    let groups = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    guard groups.count <= 8 else { return nil }
    var bytes: [UInt8] = []
    for (i, group) in groups.enumerated() {
      if group.contains(UInt8(ascii: ".")) {
        guard isLast, i == groups.count - 1, let v4 = quad(String(decoding: group, as: UTF8.self))
        else { return nil }
        bytes += v4
      } else {
        // `UInt16(_:radix:)` alone would take a sign.
        guard (1...4).contains(group.count), group.first != UInt8(ascii: "+"),
          let value = UInt16(String(decoding: group, as: UTF8.self), radix: 16)
        else { return nil }
        bytes += [UInt8(value >> 8), UInt8(value & 255)]
      }
    }
    return bytes
  }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or a single address.
package struct AddressRange: Sendable, Hashable {
  package let base: IPAddress
  package let prefixLength: Int

  /// Nil unless it is an address, optionally with `/` and a length within its family.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let base = IPAddress(parts[0]) else { return nil }
    var length = base.bytes.count * 8
    if parts.count == 2 {
      guard (1...3).contains(parts[1].utf8.count),
        parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let given = Int(parts[1]),
        given <= length
      else { return nil }
      length = given
    }
    self.base = base
    prefixLength = length
  }

  package func contains(_ address: IPAddress) -> Bool {
    guard address.bytes.count == base.bytes.count else { return false }
    var left = prefixLength
    for (a, b) in zip(address.bytes, base.bytes) where left > 0 {
      let mask: UInt8 = left >= 8 ? 0xFF : ~(0xFF >> UInt8(left))
      if a & mask != b & mask { return false }
      left -= 8
    }
    return true
  }
}
