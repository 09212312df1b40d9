/// Reads the path of a request's target as a web server does before it chooses what to serve.
///
/// The rules, in this order:
/// 1. Only the path of an absolute target (`http://host/path`) counts. A text that begins with `?` or
///   `#` is not a path.
/// 2. The path is split at `/`, and empty segments are dropped. `//a///b` is `/a/b`.
/// 3. A path parameter ends its segment. `a;jsessionid=1` is `a`.
/// 4. `%41` is the byte 0x41, decoded once. `%2F` is refused, because servers disagree whether it
///   separates segments. An invalid escape is refused too.
/// 5. `.` is dropped, and `..` drops the segment before it (RFC 3986, section 5.2.4), even if they
///   were encoded.
package enum RequestPath {
  /// The first segment as text.
  package static func firstSegment(
    of target: ArraySlice<UInt8>
  ) throws(AccessLogError) -> String {
    let path = try path(of: target)
    var segments: [[UInt8]] = []
    for raw in path.split(separator: UInt8(ascii: "/")) {
      let named = raw.prefix { $0 != UInt8(ascii: ";") }
      let segment = try decoded(named)
      switch segment {
      case [], [UInt8(ascii: ".")]: continue
      case [UInt8(ascii: "."), UInt8(ascii: ".")]: _ = segments.popLast()
      default: segments.append(segment)
      }
    }
    guard let first = segments.first else {
      throw AccessLogError(reason: "the path has no first segment")
    }
    // Bytes that are not text would all become U+FFFD, so that different ids could become the same.
    guard let text = String(validating: first, as: UTF8.self) else {
      throw AccessLogError(reason: "the path's first segment is not UTF-8")
    }
    return text
  }

  /// The target without scheme, authority, query and fragment.
  private static func path(
    of target: ArraySlice<UInt8>
  ) throws(AccessLogError) -> ArraySlice<UInt8> {
    var rest = target.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
    if rest.first != UInt8(ascii: "/") {
      guard
        let scheme = [Array("http://".utf8), Array("https://".utf8)].first(where: { scheme in
          rest.prefix(scheme.count).elementsEqual(scheme) { lowercase($0) == $1 }
        })
      else { throw AccessLogError(reason: "the request's path does not begin with /") }
      rest = rest.dropFirst(scheme.count).drop { $0 != UInt8(ascii: "/") }
    }
    return rest
  }

  private static func decoded(_ segment: ArraySlice<UInt8>) throws(AccessLogError) -> [UInt8] {
    guard segment.contains(UInt8(ascii: "%")) else { return Array(segment) }
    var result: [UInt8] = []
    var rest = segment
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        result.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(hexValue),
        let low = rest.popFirst().flatMap(hexValue)
      else { throw AccessLogError(reason: "the path has a % without an escape") }
      let value = high << 4 | low
      guard value != UInt8(ascii: "/") else {
        throw AccessLogError(reason: "the path has an encoded slash")
      }
      result.append(value)
    }
    return result
  }

  static func hexValue(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  private static func lowercase(_ byte: UInt8) -> UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
  }
}
