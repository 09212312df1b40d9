/// Reads the answer to one HTTP/1.1 request (RFC 9112). A stranger may send any bytes.
///
/// - The reader trusts no byte. Every number is bounded before it is used, and no input traps.
/// - The head, with the interim answers before it, is at most `maximumHeadBytes` long.
/// - The body is read so that the connection can be used again. After `maximumBodyBytes` the answer
///   counts as read, and the connection cannot be used again. Its first `keptBytes` are kept.
/// - The status decides what the answer means. A body that is malformed or cut short only ends
///   the use of the connection.
package struct HTTPAnswerReader: Sendable {
  package static let maximumHeadBytes = 65_536
  /// The bounds for answers to webhooks, whose bodies hardly matter.
  package static let maximumBodyBytes = 16_384
  package static let keptBytes = 1_024
  /// A receiver may send one `100 Continue` or a few `103 Early Hints`, but not hundreds.
  package static let maximumInterimAnswers = 16

  package enum Progress: Sendable, Equatable {
    case unfinished
    case finished(reusable: Bool)
  }

  /// Why the bytes are not an answer. It is thrown only before the status is known.
  package enum Malformed: Error, Sendable, Equatable, CustomStringConvertible {
    case notHTTP
    case status
    case upgrade
    case headTooLong
    case tooManyInterimAnswers
    case endedEarly

    package var description: String {
      switch self {
      case .notHTTP: "the answer is not HTTP/1"
      case .status: "the answer's status is not from 100 to 999"
      case .upgrade: "the answer switches to a protocol that was not asked for"
      case .headTooLong: "the answer's headers are longer than 64 KiB"
      case .tooManyInterimAnswers: "too many interim answers came before an answer"
      case .endedEarly: "the connection was closed before the answer"
      }
    }
  }

  private enum State {
    case statusLine
    case headers
    case length(Int)
    case chunkSize
    case chunk(Int)
    case chunkEnd
    case trailers
    case untilClosed
    case finished(reusable: Bool)
  }

  /// The facts from the header fields about the body and the connection.
  private struct Framing {
    var length: Int?
    var hasBadLength = false
    var isChunked = false
    var hasOtherEncoding = false
    var closes = false
  }

  /// The final status, from 200 to 999, once the head has been read.
  package private(set) var status: Int?
  /// The first `Retry-After` of the final head.
  package private(set) var retryAfter: String?
  /// The beginning of the body. It is the first KiB unless a caller asked for more.
  package private(set) var kept: [UInt8] = []
  /// Whether the body was read to its end, with nothing malformed or missing.
  package private(set) var isWhole = false
  /// The header `stripe-should-retry` of the final head.
  package private(set) var shouldRetry: String?

  private var state = State.statusLine
  private var line: [UInt8] = []
  private var headBytes = 0
  private var bodyBytes = 0
  private var interimAnswers = 0
  private var pendingStatus = 0
  private var isHTTP10 = false
  private var framing = Framing()
  private let maximumBodyBytes: Int
  private let keptBytes: Int

  package init() { self.init(maximumBodyBytes: Self.maximumBodyBytes, keptBytes: Self.keptBytes) }

  /// Makes a reader for an answer whose body matters, with bounds on what is read and kept.
  package init(maximumBodyBytes: Int, keptBytes: Int) {
    self.maximumBodyBytes = maximumBodyBytes
    self.keptBytes = keptBytes
  }

  /// Takes bytes that were received.
  ///
  /// - Throws: `Malformed`, before a status is known.
  /// - Complexity: O(n). The limits above bound what is kept between calls.
  package mutating func take(_ bytes: some Collection<UInt8>) throws(Malformed) -> Progress {
    var rest = bytes[...]
    while let byte = rest.first {
      switch state {
      case .finished:
        // Bytes after the end belong to no request.
        state = .finished(reusable: false)
        return .finished(reusable: false)
      case .length(let left):
        let part = rest.prefix(left)
        keep(part)
        rest = rest.dropFirst(part.count)
        if part.count == left { finishWhole() } else { state = .length(left - part.count) }
      case .chunk(let left):
        let part = rest.prefix(left)
        keep(part)
        rest = rest.dropFirst(part.count)
        state = part.count == left ? .chunkEnd : .chunk(left - part.count)
      case .untilClosed:
        keep(rest)
        rest = rest.dropFirst(rest.count)
      case .statusLine, .headers, .chunkSize, .chunkEnd, .trailers:
        rest = rest.dropFirst()
        try takeLineByte(byte)
      }
      if bodyBytes >= maximumBodyBytes { state = .finished(reusable: false) }
    }
    if case .finished(let reusable) = state { return .finished(reusable: reusable) }
    return .unfinished
  }

  /// Ends the answer, because the connection has ended.
  package mutating func end() throws(Malformed) {
    guard status != nil else { throw .endedEarly }
    if case .untilClosed = state { isWhole = true }
    state = .finished(reusable: false)
  }

  private mutating func finishWhole() {
    isWhole = true
    state = .finished(reusable: !framing.closes)
  }

  private mutating func keep(_ part: some Collection<UInt8>) {
    // It exceeds the limit by at most one read, so it cannot overflow.
    bodyBytes += part.count
    kept.append(contentsOf: part.prefix(keptBytes - kept.count))
  }

  /// Takes one byte of a part that is read by lines. Those parts are heads, sizes of chunks and
  /// trailers.
  private mutating func takeLineByte(_ byte: UInt8) throws(Malformed) {
    headBytes += 1
    guard headBytes <= Self.maximumHeadBytes else {
      guard status != nil else { throw .headTooLong }
      state = .finished(reusable: false)
      return
    }
    guard byte == UInt8(ascii: "\n") else {
      line.append(byte)
      return
    }
    if line.last == UInt8(ascii: "\r") { line.removeLast() }
    let complete = line
    line.removeAll(keepingCapacity: true)
    switch state {
    case .statusLine: try takeStatusLine(complete)
    case .headers:
      if complete.isEmpty { try endHead() } else { takeHeader(complete) }
    case .chunkSize: takeChunkSize(complete)
    case .chunkEnd: state = complete.isEmpty ? .chunkSize : .finished(reusable: false)
    case .trailers:
      if complete.isEmpty { finishWhole() }
    case .length, .chunk, .untilClosed, .finished: break
    }
  }

  /// Reads a line such as `HTTP/1.1 200 OK`. The reason and the blank before it may be missing.
  private mutating func takeStatusLine(_ line: [UInt8]) throws(Malformed) {
    let prefix = Array("HTTP/1.".utf8)
    guard line.count >= 12, line.starts(with: prefix), let minor = Self.digit(line[7]),
      line[8] == UInt8(ascii: " "), line.count == 12 || line[12] == UInt8(ascii: " ")
    else { throw .notHTTP }
    var status = 0
    for byte in line[9..<12] {
      guard let digit = Self.digit(byte) else { throw .notHTTP }
      status = status * 10 + digit
    }
    guard status >= 100 else { throw .status }
    guard status != 101 else { throw .upgrade }
    isHTTP10 = minor == 0
    pendingStatus = status
    framing = Framing()
    retryAfter = nil
    shouldRetry = nil
    state = .headers
  }

  private mutating func endHead() throws(Malformed) {
    guard pendingStatus >= 200 else {
      interimAnswers += 1
      guard interimAnswers <= Self.maximumInterimAnswers else { throw .tooManyInterimAnswers }
      state = .statusLine
      return
    }
    status = pendingStatus
    if isHTTP10 { framing.closes = true }
    if pendingStatus == 204 || pendingStatus == 304 {
      isWhole = true
      state = .finished(reusable: !framing.closes && !framing.hasBadLength)
    } else if framing.isChunked, !framing.hasOtherEncoding {
      // Request smuggling uses both fields together. The answer is read, but the connection is not
      // used again.
      if framing.length != nil || framing.hasBadLength { framing.closes = true }
      state = .chunkSize
    } else if framing.hasOtherEncoding {
      state = .untilClosed
    } else if framing.hasBadLength {
      state = .finished(reusable: false)
    } else if let length = framing.length {
      if length == 0 { finishWhole() } else { state = .length(length) }
    } else {
      state = .untilClosed
    }
  }

  /// Takes a header field. A line that is not a header field is ignored, because nothing depends on
  /// it.
  private mutating func takeHeader(_ line: [UInt8]) {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return }
    let value = Self.trimmed(line[(colon + 1)...])
    switch String(decoding: line[..<colon], as: UTF8.self).lowercased() {
    case "content-length":
      guard let length = Self.number(value, radix: 10), framing.length ?? length == length else {
        framing.hasBadLength = true
        return
      }
      framing.length = length
    case "transfer-encoding":
      let isChunked = String(decoding: value, as: UTF8.self).lowercased() == "chunked"
      if isChunked, !framing.isChunked {
        framing.isChunked = true
      } else {
        framing.hasOtherEncoding = true
      }
    case "connection":
      let words = String(decoding: value, as: UTF8.self).lowercased().split(separator: ",")
      if words.contains(where: { Self.trimmed(Array($0.utf8)[...]).elementsEqual("close".utf8) }) {
        framing.closes = true
      }
    case "retry-after":
      if retryAfter == nil { retryAfter = String(decoding: value.prefix(128), as: UTF8.self) }
    case "stripe-should-retry":
      shouldRetry = String(decoding: value.prefix(16), as: UTF8.self).lowercased()
    default: break
    }
  }

  /// Reads a size in hexadecimal. Extensions may follow it.
  private mutating func takeChunkSize(_ line: [UInt8]) {
    let digits = Self.trimmed(line.prefix { $0 != UInt8(ascii: ";") })
    guard let size = Self.number(digits, radix: 16) else {
      state = .finished(reusable: false)
      return
    }
    state = size == 0 ? .trailers : .chunk(size)
  }

  private static func digit(_ byte: UInt8) -> Int? {
    (0x30...0x39).contains(byte) ? Int(byte) - 0x30 : nil
  }

  /// Reads a number of digits only, up to 2^48. No larger number is ever needed.
  private static func number(_ text: ArraySlice<UInt8>, radix: Int) -> Int? {
    guard !text.isEmpty else { return nil }
    var value = 0
    for byte in text {
      let digit: Int
      switch byte {
      case 0x30...0x39: digit = Int(byte) - 0x30
      case 0x41...0x46: digit = Int(byte) - 0x41 + 10
      case 0x61...0x66: digit = Int(byte) - 0x61 + 10
      default: return nil
      }
      guard digit < radix else { return nil }
      value = value * radix + digit
      guard value <= 1 << 48 else { return nil }
    }
    return value
  }

  private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    var bytes = bytes.drop(while: isBlank)
    while let last = bytes.last, isBlank(last) { bytes.removeLast() }
    return bytes
  }
}
