/// A host and port to listen on.
package struct BindAddress: Sendable, Equatable, CustomStringConvertible {
  /// A host name or an address literal. IPv6 is stored without brackets.
  package let host: String
  /// 0 to 65,535. With 0 the system chooses a free port.
  package let port: Int

  /// - Precondition: `port` is from 0 to 65,535 and `host` is not empty.
  package init(host: String, port: Int) {
    precondition(!host.isEmpty, "a bind address needs a host")
    precondition((0...65_535).contains(port), "a port is from 0 to 65535")
    self.host = host
    self.port = port
  }

  /// Reads `host:port`, `[::1]:9100` or `:9100` (every IPv4 interface); nil for anything else.
  ///
  /// IPv6 without brackets is refused, because the last group cannot be told from the port.
  package init?(parsing text: String) {
    guard text.utf8.count <= 300, let colon = text.lastIndex(of: ":") else { return nil }
    var host = text[..<colon]
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy(isDigit),
      let port = Int(digits), port <= 65_535
    else { return nil }
    if host.hasPrefix("[") {
      guard host.hasSuffix("]") else { return nil }
      host = host.dropFirst().dropLast()
      guard host.utf8.contains(UInt8(ascii: ":")), host.utf8.allSatisfy(isIPv6Byte) else {
        return nil
      }
    } else {
      guard host.utf8.allSatisfy(isNameByte) else { return nil }
    }
    self.host = host.isEmpty ? "0.0.0.0" : String(host)
    self.port = port
  }

  package var description: String {
    host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
  }
}

private func isDigit(_ byte: UInt8) -> Bool {
  (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
}

private func isLetter(_ byte: UInt8) -> Bool {
  (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
}

private func isNameByte(_ byte: UInt8) -> Bool {
  isDigit(byte) || isLetter(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
    || byte == UInt8(ascii: "_")
}

/// Hexadecimal groups, an embedded IPv4 address and a zone such as `%eth0`.
private func isIPv6Byte(_ byte: UInt8) -> Bool {
  isNameByte(byte) || byte == UInt8(ascii: ":") || byte == UInt8(ascii: "%")
}
