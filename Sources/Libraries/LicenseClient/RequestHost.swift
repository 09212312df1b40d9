import JSONText
import Metering

/// Which domain a web application's request was meant for: what a proxy says counts only where the
/// proxy is trusted. For middleware.
package struct RequestHost: Sendable {
  private let domain: String?
  private let trustedProxies: [AddressRange]

  /// - Parameters:
  ///   - domain: what to ask about in place of the request's host.
  ///   - trustedProxies: addresses and ranges, such as `10.0.0.0/8`.
  /// - Throws: where a proxy is neither.
  package init(
    domain: String?, trustedProxies: [String]
  ) throws(LicenseClientOptions.Invalid) {
    self.domain = domain
    var ranges: [AddressRange] = []
    for proxy in trustedProxies {
      guard let range = AddressRange(proxy) else {
        throw .init("a trusted proxy must be an address or a range such as 10.0.0.0/8")
      }
      ranges.append(range)
    }
    self.trustedProxies = ranges
  }

  /// - Parameters:
  ///   - peer: who is at the other end of the connection, an address.
  ///   - host: the `Host` header.
  ///   - forwarded: the `X-Forwarded-Host` headers, in order.
  package func domain(peer: String?, host: String?, forwarded: [String]) -> String {
    if let domain { return domain }
    // The last is the trusted proxy's own; what stands before may be the client's.
    guard isTrusted(peer), let last = forwarded.last?.split(separator: ",").last else {
      return host ?? ""
    }
    var name = last
    while let first = name.first, first == " " || first == "\t" { name.removeFirst() }
    while let last = name.last, last == " " || last == "\t" { name.removeLast() }
    return String(name)
  }

  private func isTrusted(_ peer: String?) -> Bool {
    guard let address = peer.flatMap({ IPAddress($0) })?.unmapped else { return false }
    return trustedProxies.contains { $0.contains(address) }
  }
}

extension IPAddress {
  /// `::ffff:192.0.2.1` as the IPv4 address that it is.
  fileprivate var unmapped: IPAddress {
    let prefix = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
    guard isV6, bytes.starts(with: prefix) else { return self }
    return IPAddress(bytes: Array(bytes.dropFirst(12))) ?? self
  }
}

extension LicenseResult {
  /// How a web application answers where the license does not hold: 503 while nothing is known of
  /// it, else 403; `application/problem+json`.
  package var refusal: (status: Int, body: [UInt8]) {
    let isUnknown = code == "unreachable"
    let status = isUnknown ? 503 : 403
    var json = JSONWriter()
    json.beginObject()
    json.member("type", "about:blank")
    json.member("title", isUnknown ? "Service Unavailable" : "Forbidden")
    json.member("status", Int64(status))
    json.member("code", code)
    json.member("detail", explanation ?? "The license is not valid.")
    json.endObject()
    return (status, json.bytes)
  }
}
