import Metering

/// The parsed URL of the service, such as `https://licenses.example.com:8443/base`.
struct ServiceAddress: Sendable, Equatable {
  let isTLS: Bool
  /// A name, or an address without brackets.
  let host: String
  let port: Int
  /// The value of the header `Host`.
  let authority: String
  /// The path of the URL, which has no slash at its end.
  let basePath: String
  /// The name that TLS verifies. Nil if the host is an address, which TLS then verifies.
  var serverName: String? { IPAddress(host) == nil ? host : nil }

  /// - Throws: an error if it is not such a URL, or if it would send secrets over a network in
  ///   plain text.
  init(_ url: String) throws(LicenseClientOptions.Invalid) {
    let invalid = LicenseClientOptions.Invalid("url must be https://host[:port][/path]")
    guard (1...2_048).contains(url.utf8.count), url.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
      !url.utf8.contains(where: Set("\"\\<>^`{|}?#@".utf8).contains)
    else { throw invalid }
    let lower = url.lowercased()
    let rest: Substring
    if lower.hasPrefix("https://") {
      isTLS = true
      rest = url.dropFirst(8)
    } else if lower.hasPrefix("http://") {
      isTLS = false
      rest = url.dropFirst(7)
    } else {
      throw invalid
    }
    let end = rest.firstIndex(of: "/") ?? rest.endIndex
    authority = rest[..<end].lowercased()
    guard let (name, port) = Self.split(authority, isTLS ? 443 : 80) else { throw invalid }
    host = name
    self.port = port
    var path = rest[end...]
    while path.hasSuffix("/") { path.removeLast() }
    basePath = String(path)
    guard isTLS || Self.isLoopback(host) else {
      throw .init(
        "url must be https, because license keys are secrets (http works for loopback addresses)")
    }
  }

  private static func split(_ authority: String, _ standard: Int) -> (String, Int)? {
    let host: Substring
    let tail: Substring
    if authority.hasPrefix("[") {
      guard let close = authority.firstIndex(of: "]") else { return nil }
      host = authority[..<close].dropFirst()
      tail = authority[close...].dropFirst()
      guard IPAddress(host)?.isV6 == true else { return nil }
    } else {
      let colon = authority.firstIndex(of: ":") ?? authority.endIndex
      host = authority[..<colon]
      tail = authority[colon...]
      let isName = host.utf8.allSatisfy {
        (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || [0x2D, 0x2E, 0x5F].contains($0)
      }
      guard (1...253).contains(host.utf8.count), isName else { return nil }
    }
    if tail.isEmpty { return (String(host), standard) }
    guard tail.hasPrefix(":"), let port = UInt16(tail.dropFirst()), port > 0, !tail.contains("+")
    else { return nil }
    return (String(host), Int(port))
  }

  private static func isLoopback(_ host: String) -> Bool {
    guard let address = IPAddress(host) else { return host == "localhost" }
    return ["127.0.0.0/8", "::1"].compactMap { AddressRange($0) }.contains { $0.contains(address) }
  }
}
