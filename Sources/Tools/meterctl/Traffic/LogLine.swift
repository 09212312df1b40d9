import Recount

/// Which part of an access log's line names the license.
enum LicenseSource: String, CaseIterable, Sendable {
  /// The client: address or name.
  case host
  /// The first segment of the request's path, by the rules of `RequestPath`.
  case path
  /// The virtual host.
  case vhost
}

/// What a line of an access log becomes.
struct LogEvent: Equatable, Sendable {
  var license: String
  var timeMilliseconds: Int64
  var domain: String?

  /// Why a line becomes nothing; never quotes the line.
  struct Refusal: Error, Equatable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }

  static func parse(
    _ line: ArraySlice<UInt8>, format: AccessLogFormat, licenseFrom source: LicenseSource
  ) throws(Refusal) -> LogEvent {
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
      guard !parsed.method.isEmpty else { throw Refusal("the request is none by HTTP") }
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
    // What was not UTF-8 became U+FFFD: two different ids could become one. Control characters and
    // byte order marks cannot be seen: two ids that look the same would count apart.
    guard
      license.unicodeScalars.allSatisfy({
        $0 != "\u{FFFD}" && $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value)
          && $0 != "\u{FEFF}"
      })
    else {
      throw Refusal("the license id has characters that cannot be seen, or is no text in UTF-8")
    }
    return LogEvent(
      license: license, timeMilliseconds: parsed.timeMilliseconds,
      domain: parsed.virtualHost.flatMap(normalized))
  }

  /// The client's address or name in one spelling: without port and brackets, then as `normalized`.
  /// Nil where the log names nobody (`-`, and `unix:` of nginx behind a socket).
  private static func client(_ host: String) -> String? {
    guard host != "unix:" else { return nil }
    var bytes = Array(host.utf8)
    if bytes.first == UInt8(ascii: "["), let end = bytes.firstIndex(of: UInt8(ascii: "]")) {
      bytes = Array(bytes[1..<end])
    } else if bytes.count(where: { $0 == UInt8(ascii: ":") }) == 1 {
      // Two colons and more are an IPv6 address.
      bytes = Array(bytes.prefix { $0 != UInt8(ascii: ":") })
    }
    return normalized(String(decoding: bytes, as: UTF8.self))
  }

  /// In lower case and without the trailing dot; nil if nothing is left, or a hyphen that says that
  /// there is nothing.
  private static func normalized(_ host: String) -> String? {
    var bytes = host.utf8.map { (0x41...0x5A).contains($0) ? $0 + 0x20 : $0 }
    if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    return bytes.isEmpty || bytes == [UInt8(ascii: "-")]
      ? nil : String(decoding: bytes, as: UTF8.self)
  }
}
