import Recount

/// Which part of an access log's line names the license.
enum LicenseSource: String, CaseIterable, Sendable {
  /// The client: address or name.
  case host
  /// The first segment of the request's path.
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
    case .host: license = parsed.host
    case .path: license = try firstSegment(parsed.path)
    case .vhost:
      guard let host = parsed.virtualHost.flatMap(normalized) else {
        throw Refusal("no virtual host")
      }
      license = host
    }
    guard (1...512).contains(license.utf8.count) else {
      throw Refusal("the license id is longer than 512 bytes")
    }
    // What was not UTF-8 became U+FFFD: two different ids could become one.
    guard license.unicodeScalars.allSatisfy({ $0 != "\u{FFFD}" && $0.value >= 0x20 }) else {
      throw Refusal("the license id is no text in UTF-8")
    }
    return LogEvent(
      license: license, timeMilliseconds: parsed.timeMilliseconds,
      domain: parsed.virtualHost.flatMap(normalized))
  }

  private static func firstSegment(_ path: String) throws(Refusal) -> String {
    guard path.utf8.first == UInt8(ascii: "/") else {
      throw Refusal("the request has no path that begins with /")
    }
    let segment = path.utf8.dropFirst().prefix {
      $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#")
    }
    guard !segment.isEmpty, let text = String(segment) else {
      throw Refusal("the path has no first segment")
    }
    return text
  }

  /// Lower case, without the trailing dot.
  private static func normalized(_ host: String) -> String? {
    var bytes = host.utf8.map { (0x41...0x5A).contains($0) ? $0 + 0x20 : $0 }
    if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
  }
}
