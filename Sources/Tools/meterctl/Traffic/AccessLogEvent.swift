import Recount

/// The part of an access log's line that names the license.
enum LicenseSource: String, CaseIterable, Sendable {
  /// The client, by address or name.
  case host
  /// The first segment of the request's path, by the rules of `RequestPath`.
  case path
  /// The virtual host.
  case vhost
}

/// The event that a line of an access log becomes.
struct AccessLogEvent: Equatable, Sendable {
  var license: String
  var timeMilliseconds: Int64
  var domain: String?

  /// The reason why a line becomes no event. It never quotes the line.
  struct Refusal: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }

  static func parse(
    _ line: ArraySlice<UInt8>, format: AccessLogFormat, licenseFrom source: LicenseSource
  ) throws(Refusal) -> AccessLogEvent {
    let parsed: AccessLogLine
    do { parsed = try AccessLogLine.parse(line, format: format) } catch {
      throw Refusal(error.reason)
    }
    let license: String
    switch source {
    case .host:
      guard let host = client(parsed.host) else { throw Refusal("the line names no client") }
      license = host
    case .path:
      guard !parsed.method.isEmpty else { throw Refusal("the request is not HTTP") }
      do { license = try RequestPath.firstSegment(of: parsed.target[...]) } catch {
        throw Refusal(error.reason)
      }
    case .vhost:
      guard let host = parsed.virtualHost.flatMap(normalized) else {
        throw Refusal("no virtual host")
      }
      license = host
    }
    guard (1...512).contains(license.utf8.count) else {
      throw Refusal("the license id is longer than 512 bytes")
    }
    // Bytes that were not UTF-8 became U+FFFD, so two different ids could become one. Control
    // characters and byte order marks are invisible, so two ids that look the same would count
    // separately.
    guard
      license.unicodeScalars.allSatisfy({
        $0 != "\u{FFFD}" && $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value)
          && $0 != "\u{FEFF}"
      })
    else {
      throw Refusal("the license id has invisible characters, or is not text in UTF-8")
    }
    return AccessLogEvent(
      license: license, timeMilliseconds: parsed.timeMilliseconds,
      domain: parsed.virtualHost.flatMap(normalized))
  }

  /// The client's address or name in one spelling: without port and brackets, then as `normalized`.
  /// It is nil if the log names nobody (`-`, and `unix:` of nginx behind a socket).
  private static func client(_ host: String) -> String? {
    guard host != "unix:" else { return nil }
    var bytes = Array(host.utf8)
    if bytes.first == UInt8(ascii: "["), let end = bytes.firstIndex(of: UInt8(ascii: "]")) {
      bytes = Array(bytes[1..<end])
    } else if bytes.count(where: { $0 == UInt8(ascii: ":") }) == 1 {
      // A text with two or more colons is an IPv6 address.
      bytes = Array(bytes.prefix { $0 != UInt8(ascii: ":") })
    }
    return normalized(String(decoding: bytes, as: UTF8.self))
  }

  /// In lower case and without the trailing dot. It is nil if nothing is left, or only a hyphen,
  /// which means that there is nothing.
  private static func normalized(_ host: String) -> String? {
    var bytes = host.utf8.map { (0x41...0x5A).contains($0) ? $0 + 0x20 : $0 }
    if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    return bytes.isEmpty || bytes == [UInt8(ascii: "-")]
      ? nil : String(decoding: bytes, as: UTF8.self)
  }
}
