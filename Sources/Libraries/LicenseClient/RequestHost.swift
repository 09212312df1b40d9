import JSONText
import Metering

/// Finds the domain that a web application's request was meant for. A proxy's header counts only if
/// the proxy is trusted. It is for middleware.
package struct RequestHost: Sendable {
  private let domain: String?
  private let trustedProxies: [AddressRange]

  /// - Parameters:
  ///   - domain: the domain to ask about in place of the request's host.
  ///   - trustedProxies: addresses and ranges, such as `10.0.0.0/8`.
  /// - Throws: an error if a proxy is neither.
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
  ///   - peer: the address at the other end of the connection.
  ///   - host: the `Host` header.
  ///   - forwarded: the `X-Forwarded-Host` headers, in order.
  package func domain(peer: String?, host: String?, forwarded: [String]) -> String {
    if let domain { return domain }
    // The last value comes from the trusted proxy. The values before it may come from the client.
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
  /// The IPv4 address of an address such as `::ffff:192.0.2.1`.
  fileprivate var unmapped: IPAddress {
    let prefix = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
    guard isV6, bytes.starts(with: prefix) else { return self }
    return IPAddress(bytes: Array(bytes.dropFirst(12))) ?? self
  }
}

extension LicenseResult {
  /// The answer of a web application if the license is not valid, as `application/problem+json`.
  /// The status is 503 while nothing is known about the license, and 403 otherwise.
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
