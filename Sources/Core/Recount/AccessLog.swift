/// The layout of the lines of an access log.
package enum AccessLogFormat: String, CaseIterable, Sendable {
  /// `%h %l %u %t "%r" %>s %b`, the NCSA common log format.
  case common
  /// The common format with `"%{Referer}i" "%{User-Agent}i"` after it, which is also nginx's
  /// default. One more quoted field is allowed.
  case combined
  /// The format `main` of nginx.org's own configuration, which is combined with
  /// `"$http_x_forwarded_for"` after it.
  case main
  /// `%v:%p` and a combined line, as in Debian's Apache.
  // swift-format-ignore: AlwaysUseLowerCamelCase
  case vhost_combined
}

/// Why a line is not a line of an access log. The reason names the field but not its value.
package struct AccessLogError: Error, Equatable, Sendable, CustomStringConvertible {
  package var reason: String

  package init(reason: String) {
    self.reason = reason
  }

  package var description: String { reason }
}

/// One request, as Apache or nginx logged it.
///
/// In quoted fields `\"` and `\\` are resolved. Other escapes (`\x16`, `\n`) stay as they were
/// written, because their bytes may not be text. Bytes that are not UTF-8 become U+FFFD.
package struct AccessLogLine: Equatable, Sendable {
  /// The address or name of the client. The address may be IPv6.
  package var host: String
  /// The line's time in milliseconds since 1970. Its precision is a second.
  package var timeMilliseconds: Int64
  /// The method. It is empty if the request was not HTTP, for example a TLS greeting on port 80, or
  /// `-` if no request arrived before the timeout. Such lines are real and have a status.
  package var method: String
  /// The request's target with its query. If the request was not HTTP, it is the whole text, and
  /// for `-` it is empty.
  package var path: String
  /// The target's bytes as the client sent them. Every escape of the log is resolved, including
  /// `\x22`.
  package var target: [UInt8]
  /// The status, or 0 if the server sent none. nginx then writes `000`, and Apache writes `-`.
  package var status: Int
  /// The number of bytes. The format writes `-` in place of 0.
  package var bytes: Int64
  /// Nil for `-`, for the empty text, and if the line ends before it.
  package var referrer: String?
  package var userAgent: String?
  /// The virtual host without its port. Only `vhost_combined` has it.
  package var virtualHost: String?

  package init(
    host: String, timeMilliseconds: Int64, method: String, path: String, status: Int,
    bytes: Int64, referrer: String? = nil, userAgent: String? = nil, virtualHost: String? = nil,
    target: [UInt8]? = nil
  ) {
    self.host = host
    self.timeMilliseconds = timeMilliseconds
    self.method = method
    self.path = path
    self.target = target ?? Array(path.utf8)
    self.status = status
    self.bytes = bytes
    self.referrer = referrer
    self.userAgent = userAgent
    self.virtualHost = virtualHost
  }

  /// Reads a line. One CR or LF or both at its end are ignored.
  ///
  /// - Throws: `AccessLogError` if the line does not have that format. An empty line does not.
  package static func parse(
    _ line: [UInt8], format: AccessLogFormat
  ) throws(AccessLogError) -> AccessLogLine {
    try parse(line[...], format: format)
  }

  package static func parse(
    _ line: ArraySlice<UInt8>, format: AccessLogFormat
  ) throws(AccessLogError) -> AccessLogLine {
    var line = line
    if line.last == UInt8(ascii: "\n") { line.removeLast() }
    if line.last == UInt8(ascii: "\r") { line.removeLast() }
    line = withoutForeignStart(line)
    var cursor = ByteCursor(line)

    var virtualHost: String?
    if format == .vhost_combined {
      virtualHost = try hostName(of: try asciiWord(&cursor, "virtual host"))
    }
    let host = text(try asciiWord(&cursor, "host"))
    _ = try word(&cursor, "identity")
    let time = try skipUserAndReadTime(&cursor)
    try expect(" ", &cursor, behind: "time")
    let requestStart = cursor
    guard let request = try quoted(&cursor, "request", mayBeCut: false) else {
      throw AccessLogError(reason: "the request in quotes is missing")
    }
    var again = requestStart
    let sent = try quoted(&again, "request", mayBeCut: false, resolvesAll: true) ?? []
    try expect(" ", &cursor, behind: "request")
    let status = try readStatus(&cursor)
    try expect(" ", &cursor, behind: "status")
    let bytes = try readBytes(&cursor)
    let (method, target) = split(request: request)
    let path = method == nil && request.elementsEqual("-".utf8) ? "" : text(target)

    var result = AccessLogLine(
      host: host, timeMilliseconds: time, method: method.map(text) ?? "", path: path,
      status: status, bytes: bytes, virtualHost: virtualHost,
      target: Array(split(request: sent).target))
    if format != .common {
      result.referrer = try readOptional(&cursor, "referrer")
      result.userAgent = try readOptional(&cursor, "user agent")
      _ = try readOptional(&cursor, "forwarded address")
    }
    guard cursor.isAtEnd else {
      throw AccessLogError(reason: "there is more text after the last field")
    }
    return result
  }

  /// The line without bytes that the server did not write. Those are an editor's byte order mark,
  /// and the NULs before the first line after a log was rotated by copying and truncating it.
  private static func withoutForeignStart(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var line = line
    while true {
      if line.first == 0 {
        line = line.drop { $0 == 0 }
      } else if line.starts(with: [0xEF, 0xBB, 0xBF]) {
        line = line.dropFirst(3)
      } else {
        return line
      }
    }
  }

  // MARK: Fields

  /// A word that is an address or a host name, which are ASCII.
  private static func asciiWord(
    _ cursor: inout ByteCursor, _ name: String
  ) throws(AccessLogError) -> ArraySlice<UInt8> {
    let word = try word(&cursor, name)
    guard word.allSatisfy({ $0 < 0x7F }) else {
      throw AccessLogError(reason: "the \(name) is neither an address nor a name")
    }
    return word
  }

  /// Takes the text before the next space, and the space.
  private static func word(
    _ cursor: inout ByteCursor, _ name: String
  ) throws(AccessLogError) -> ArraySlice<UInt8> {
    // A quote or an open bracket begins a later field, so this one is missing. Only an IPv6 address
    // may be in brackets. A time's bracket closes after the next space.
    guard let word = cursor.takeUpTo(" "), cursor.take(" "), !word.isEmpty,
      word.allSatisfy({ $0 > 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "\"") }),
      word.first != UInt8(ascii: "[") || word.contains(UInt8(ascii: "]"))
    else { throw AccessLogError(reason: "no \(name)") }
    return word
  }

  /// Removes the port from `name:port`. `[::1]:80` gives `[::1]`. Some formats write no port.
  private static func hostName(of word: ArraySlice<UInt8>) throws(AccessLogError) -> String {
    guard let colon = word.lastIndex(of: UInt8(ascii: ":")) else { return text(word) }
    let port = word[(colon + 1)...]
    // RFC 3986 allows an empty port.
    let isPort = port.count <= 5 && port.allSatisfy(isDigit)
    guard isPort, colon > word.startIndex else {
      throw AccessLogError(reason: "there is no port after the virtual host's colon")
    }
    return text(word[..<colon])
  }

  /// Skips the authenticated user, whose name may have spaces, brackets and escaped quotes, and
  /// reads the time after it.
  private static func skipUserAndReadTime(
    _ cursor: inout ByteCursor
  ) throws(AccessLogError) -> Int64 {
    var user: [UInt8] = []
    var problem = AccessLogError(reason: "the time in brackets is missing")
    while let part = cursor.takeUpTo(" "), cursor.take(" ") {
      user += part
      if cursor.rest.first == UInt8(ascii: "[") {
        var ahead = cursor
        do throws(AccessLogError) {
          let time = try readTime(&ahead)
          try check(user: user)
          cursor = ahead
          return time
        } catch { problem = error }
      }
      user.append(UInt8(ascii: " "))
    }
    throw problem
  }

  /// "- frank" is an identity and a user. Then the line has a field before the host that its format
  /// does not have, and all fields would be off by one. Apache writes `""` for an empty user and
  /// escapes quotes in a user's name.
  private static func check(user: [UInt8]) throws(AccessLogError) {
    var isEscaped = false
    let hasBareQuote = user.contains { byte in
      defer { isEscaped = !isEscaped && byte == UInt8(ascii: "\\") }
      return byte == UInt8(ascii: "\"") && !isEscaped
    }
    guard !user.isEmpty, !user.starts(with: "- ".utf8),
      !hasBareQuote || user.elementsEqual("\"\"".utf8)
    else {
      throw AccessLogError(
        reason: "the user is missing, or there are too many fields before the time")
    }
  }

  /// Reads a time such as `[17/May/2015:10:05:03 +0000]`.
  private static func readTime(_ cursor: inout ByteCursor) throws(AccessLogError) -> Int64 {
    let months = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    guard cursor.take("["),
      let day = cursor.takeNumber(digits: 2), cursor.take("/"),
      let monthName = cursor.takeUpTo("/"),
      let month = months.firstIndex(where: { monthName.elementsEqual($0.utf8) }),
      cursor.take("/"),
      let year = cursor.takeNumber(digits: 4), cursor.take(":"),
      let hour = cursor.takeNumber(digits: 2), hour <= 23, cursor.take(":"),
      let minute = cursor.takeNumber(digits: 2), minute <= 59, cursor.take(":"),
      let second = cursor.takeNumber(digits: 2), second <= 60, cursor.take(" ")
    else {
      throw AccessLogError(reason: "the time does not have the form [17/May/2015:10:05:03 +0000]")
    }
    let isEast = cursor.take("+")
    guard isEast || cursor.take("-"),
      let offsetHour = cursor.takeNumber(digits: 2), offsetHour <= 23,
      let offsetMinute = cursor.takeNumber(digits: 2), offsetMinute <= 59,
      cursor.take("]"),
      let days = Calendar.daysSinceEpoch(year: year, month: Int64(month) + 1, day: day)
    else { throw AccessLogError(reason: "this time does not exist") }
    let offsetMinutes = (offsetHour * 60 + offsetMinute) * (isEast ? 1 : -1)
    let minutes = days * 1440 + hour * 60 + minute - offsetMinutes
    return (minutes * 60 + min(second, 59)) * 1000
  }

  private static func readStatus(_ cursor: inout ByteCursor) throws(AccessLogError) -> Int {
    if cursor.take("-") { return 0 }
    guard let status = cursor.takeNumber(digits: 3), status == 0 || (100...999).contains(status)
    else {
      throw AccessLogError(reason: "the status does not have three digits")
    }
    return Int(status)
  }

  private static func readBytes(_ cursor: inout ByteCursor) throws(AccessLogError) -> Int64 {
    if cursor.take("-") {
      return 0
    }
    guard var bytes = cursor.takeDigit() else {
      throw AccessLogError(reason: "the byte count is missing")
    }
    var digits = 1
    while let digit = cursor.takeDigit() {
      digits += 1
      guard digits <= 18 else { throw AccessLogError(reason: "the byte count is too large") }
      bytes = bytes * 10 + digit
    }
    return bytes
  }

  /// Reads a quoted field and the space before it. Returns nil for `-`, for the empty text, and at
  /// the line's end.
  private static func readOptional(
    _ cursor: inout ByteCursor, _ name: String
  ) throws(AccessLogError) -> String? {
    if cursor.isAtEnd {
      return nil
    }
    guard cursor.take(" ") else {
      throw AccessLogError(reason: "there is no space before the \(name)")
    }
    // A line may be cut in its last fields if the server was killed or the client sent kilobytes
    // (see line 8,899 of the sample log). The fields of the request are complete then.
    guard let field = try quoted(&cursor, name, mayBeCut: true) else {
      throw AccessLogError(reason: "the \(name) in quotes is missing")
    }
    let value = text(field[...])
    return value.isEmpty || value == "-" ? nil : value
  }

  /// Reads the text in quotes and resolves `\"` and `\\`. Returns nil if no quote comes next.
  ///
  /// - Parameter resolvesAll: whether to resolve `\x22`, `\n` and so on as well, so that the bytes
  ///   are those that were sent.
  private static func quoted(
    _ cursor: inout ByteCursor, _ name: String, mayBeCut: Bool, resolvesAll: Bool = false
  ) throws(AccessLogError) -> [UInt8]? {
    guard cursor.take("\"") else { return nil }
    var content: [UInt8] = []
    var isEscaped = false
    var end = cursor.rest.startIndex
    while end < cursor.rest.endIndex {
      let byte = cursor.rest[end]
      end += 1
      if isEscaped, resolvesAll, let (value, length) = escape(cursor.rest[(end - 1)...]) {
        content.append(value)
        end += length - 1
        isEscaped = false
      } else if isEscaped {
        if byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
          content.append(UInt8(ascii: "\\"))
        }
        content.append(byte)
        isEscaped = false
      } else if byte == UInt8(ascii: "\\") {
        isEscaped = true
      } else if byte == UInt8(ascii: "\"") {
        cursor = ByteCursor(cursor.rest[end...])
        return content
      } else {
        content.append(byte)
      }
    }
    guard mayBeCut else { throw AccessLogError(reason: "the \(name) does not end") }
    cursor = ByteCursor([])
    return content
  }

  /// The byte of an escape such as `x22`, `n` or `t`, and the escape's length without its
  /// backslash.…
  private static func escape(_ rest: ArraySlice<UInt8>) -> (value: UInt8, length: Int)? {
    switch rest.first {
    case UInt8(ascii: "x"), UInt8(ascii: "X"):
      let digits = rest.dropFirst().prefix(2).compactMap(RequestPath.hexValue)
      return digits.count == 2 ? (digits[0] << 4 | digits[1], 3) : nil
    case UInt8(ascii: "b"): return (0x08, 1)
    case UInt8(ascii: "t"): return (0x09, 1)
    case UInt8(ascii: "n"): return (0x0A, 1)
    case UInt8(ascii: "v"): return (0x0B, 1)
    case UInt8(ascii: "f"): return (0x0C, 1)
    case UInt8(ascii: "r"): return (0x0D, 1)
    default: return nil
    }
  }

  /// Splits a request such as `GET /path HTTP/1.1`. A path may have spaces. HTTP/0.9 names no
  /// version. If there is no method, the target is the whole text.
  private static func split(
    request: [UInt8]
  ) -> (method: ArraySlice<UInt8>?, target: ArraySlice<UInt8>) {
    guard let space = request.firstIndex(of: UInt8(ascii: " ")), space > 0,
      request[..<space].allSatisfy({ isLetter($0) || $0 == UInt8(ascii: "-") })
    else { return (nil, request[...]) }
    var target = request[(space + 1)...]
    if let last = target.lastIndex(of: UInt8(ascii: " ")),
      target[(last + 1)...].starts(with: "HTTP/".utf8)
    {
      target = target[..<last]
    }
    guard !target.isEmpty else { return (nil, request[...]) }
    return (request[..<space], target)
  }

  // MARK: Bytes

  private static func expect(
    _ character: Unicode.Scalar, _ cursor: inout ByteCursor, behind name: String
  ) throws(AccessLogError) {
    guard cursor.take(character) else {
      throw AccessLogError(reason: "there is no space after \(name)")
    }
  }

  private static func text(_ bytes: ArraySlice<UInt8>) -> String {
    String(decoding: bytes, as: UTF8.self)
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte & 0xDF)
  }
}
