import EventCodec
import Metering
import Testing

@Suite("The scanner of JSON")
struct JSONScannerTests {
  private func scan<T>(_ text: [UInt8], _ body: (inout JSONScanner) -> T) -> T {
    let copy = exactCopy(text)
    defer { copy.deallocate() }
    var scanner = JSONScanner(UnsafeRawBufferPointer(copy))
    return body(&scanner)
  }

  /// What RFC 8259 says about a string's ASCII content, read byte by byte.
  private func expectedEnd(_ content: [UInt8]) -> (end: Int, hasEscapes: Bool)? {
    var i = 0
    var hasEscapes = false
    while i < content.count {
      switch content[i] {
      case 0x22: return (i, hasEscapes)
      case 0x5C:
        hasEscapes = true
        guard i + 1 < content.count, bytes("\"\\/bfnrt").contains(content[i + 1]) else {
          return nil
        }
        i += 2
      case 0..<0x20, 0x80...0xFF: return nil
      default: i += 1
      }
    }
    return nil
  }

  @Test("A string ends at its quote, whatever byte it holds anywhere, at any alignment")
  func everyByteAtEveryPosition() {
    for alignment in 0...16 {
      for length in 0...20 {
        for position in 0..<max(length, 1) {
          for byte in [
            0x00, 0x01, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x5B, 0x5C, 0x5D, 0x7F, 0x80, 0xFF,
          ] as [UInt8] {
            var content = [UInt8](repeating: 0x61, count: length)
            if position < length { content[position] = byte }
            content += [0x22]
            let text = [UInt8](repeating: 0x20, count: alignment) + [0x22] + content
            let token = scan(text) { $0.string() }
            let expected = expectedEnd(content)
            #expect((token == nil) == (expected == nil))
            if let token, let expected {
              #expect(token.start == alignment + 1)
              #expect(token.end == token.start + expected.end)
              #expect(token.hasEscapes == expected.hasEscapes)
            }
          }
        }
      }
    }
  }

  @Test("Within eight bytes, any two bytes in any two places are told apart")
  func pairsWithinAWord() {
    let values: [UInt8] = [0x1F, 0x20, 0x21, 0x22, 0x23, 0x5B, 0x5C, 0x5D, 0x6E, 0x7F, 0x80]
    for first in 0..<8 {
      for second in 0..<8 where second != first {
        for a in values {
          for b in values {
            var content = [UInt8](repeating: 0x6E, count: 16)
            content[first] = a
            content[second] = b
            content.append(0x22)
            let token = scan([0x22] + content) { $0.string() }
            let expected = expectedEnd(content)
            #expect(token.map { $0.end - 1 } == expected?.end, "\(content)")
            #expect(token?.hasEscapes == expected?.hasEscapes, "\(content)")
          }
        }
      }
    }
  }

  @Test("Every byte value is special or plain as the grammar says, in each place of a word")
  func allBytesInAWord() {
    for position in 0..<8 {
      for byte in UInt8.min...UInt8.max {
        var content = [UInt8](repeating: 0x6E, count: 8)
        content[position] = byte
        content.append(0x22)
        let token = scan([0x22] + content) { $0.string() }
        #expect(token.map { $0.end - 1 } == expectedEnd(content)?.end)
      }
    }
  }

  @Test("Text without a closing quote is not a string, at any length")
  func unterminated() {
    for length in 0...40 {
      #expect(scan([0x22] + [UInt8](repeating: 0x61, count: length)) { $0.string() } == nil)
    }
    for cut in ["\"\\", "\"\\u", "\"\\u0", "\"\\u004", "\"\\u0041", "\"aaaaaaa\\", "\"\u{E9}"] {
      #expect(scan(bytes(cut)) { $0.string() } == nil)
    }
    #expect(scan([]) { $0.string() } == nil)
  }

  @Test("Escapes become their characters")
  func unescaping() {
    let cases: [(String, [UInt8], StringToken.Problem?)] = [
      (#"\"\\\/\b\f\n\r\t"#, [0x22, 0x5C, 0x2F, 8, 12, 10, 13, 9], nil),
      (#"\u0041\u00e9\u20AC\uFFFF"#, bytes("Aé€\u{FFFF}"), nil),
      (#"\ud83d\ude00\uDBFF\uDFFF"#, bytes("😀\u{10FFFF}"), nil),
      (#"a\u0000"#, [0x61, 0], .nul), (#"\ud800"#, bytes("\u{FFFD}"), .loneSurrogate),
      (#"\udc00\ud800"#, bytes("\u{FFFD}\u{FFFD}"), .loneSurrogate),
      (#"\ud800\ud800\udc00"#, bytes("\u{FFFD}\u{10000}"), .loneSurrogate),
      (#"\ud800\u0041"#, bytes("\u{FFFD}A"), .loneSurrogate),
      (#"\ud800\n"#, bytes("\u{FFFD}\n"), .loneSurrogate),
      (#"\ud800\u0000"#, bytes("\u{FFFD}\0"), .nul), (#"\u0000\udfff"#, bytes("\0\u{FFFD}"), .nul),
    ]
    for (written, expected, problem) in cases {
      let text = bytes("\"\(written)\"")
      let copy = exactCopy(text)
      defer { copy.deallocate() }
      var scanner = JSONScanner(UnsafeRawBufferPointer(copy))
      guard let token = scanner.string() else {
        Issue.record("not read: \(written)")
        continue
      }
      // This is exactly as much room as the contract promises to need.
      let output = UnsafeMutablePointer<UInt8>.allocate(capacity: token.end - token.start)
      defer { output.deallocate() }
      let found = token.unescape(from: UnsafeRawBufferPointer(copy), into: output)
      #expect(Array(UnsafeBufferPointer(start: output, count: found.count)) == expected)
      #expect(found.problem == problem)
    }
  }

  @Test("Every code unit in an escape becomes its UTF-8, in either case of its digits")
  func everyCodeUnit() throws {
    let output = UnsafeMutablePointer<UInt8>.allocate(capacity: 6)
    defer { output.deallocate() }
    for unit in UInt32(0)...0xFFFF {
      let digits = String(unit, radix: 16, uppercase: unit % 2 == 0)
      let text = exactCopy(
        bytes("\"\\u" + String(repeating: "0", count: 4 - digits.count) + digits + "\""))
      defer { text.deallocate() }
      var scanner = JSONScanner(UnsafeRawBufferPointer(text))
      let scanned = scanner.string()
      let token = try #require(scanned)
      let found = token.unescape(from: UnsafeRawBufferPointer(text), into: output)
      let scalar = UnicodeScalar(unit)
      let problem: StringToken.Problem? = unit == 0 ? .nul : scalar == nil ? .loneSurrogate : nil
      let expected = Array(String(scalar ?? "\u{FFFD}").utf8)
      let written = Array(UnsafeBufferPointer(start: output, count: found.count))
      if written != expected || found.problem != problem {
        Issue.record("\(digits) became \(written)")
      }
    }
  }

  @Test("Numbers follow the grammar, and end where it ends")
  func numbers() {
    let cases: [(String, Int?, Int64?)] = [
      ("0", 1, 0), ("-0", 2, 0), ("10", 2, 10), ("1.5", 3, nil), ("1e5", 3, nil), ("1E-5", 4, nil),
      ("1.0e+10", 7, nil), ("9223372036854775807", 19, .max), ("9223372036854775808", 19, nil),
      ("18446744073709551615", 20, nil), ("18446744073709551616", 20, nil), ("-5", 2, nil),
      ("1,", 1, 1), ("1]", 1, 1), ("1 ", 1, 1), ("00", nil, nil), ("01", nil, nil), ("-", nil, nil),
      ("-01", nil, nil), ("1.", nil, nil), ("1.e1", nil, nil), ("1e", nil, nil), ("1e+", nil, nil),
      (".1", nil, nil), ("+1", nil, nil), ("", nil, nil), ("0x", 1, 0), ("1-", 1, 1),
    ]
    for (text, end, value) in cases {
      let found = scan(bytes(text)) { scanner in
        let token = scanner.number()
        return (token: token, end: scanner.position)
      }
      #expect((found.token == nil) == (end == nil), "\(text)")
      if let end {
        #expect(found.end == end, "\(text)")
        #expect(found.token?.integer(upTo: .max) == value, "\(text)")
      }
    }
  }

  @Test("Whole values are skipped, and their kind is known afterwards")
  func kinds() {
    let cases: [(String, JSONKind?)] = [
      ("true", .true), ("false", .false), ("null", .null), ("1", .number), ("\"a\"", .string),
      ("{}", .object), ("[]", .array), (" [ 1 , { \"a\" : [ ] } ] ", .array), ("tru", nil),
      ("nul", nil), ("True", nil), ("[1,]", nil), ("[,1]", nil), ("{\"a\"}", nil),
      ("{\"a\":}", nil),
      ("{\"a\":1,}", nil), ("{1:1}", nil), ("[1 2]", nil), ("[}", nil), ("{]", nil), ("[", nil),
      ("{", nil), ("]", nil), ("", nil), (" ", nil), ("[[]", nil), ("{\"a\":[}]", nil),
      ("{\"a\":1 \"b\":2}", nil), ("[1:2]", nil),
    ]
    for (text, kind) in cases {
      let found = scan(bytes(text)) { scanner in
        let kind = scanner.skipValue(depth: 0)
        return scanner.atEnd() || kind == nil ? kind : nil
      }
      #expect(found == kind, "\(text)")
    }
  }

  @Test("Bytes are compared at every length and alignment, to the last one")
  func comparison() {
    for offset in 0..<8 {
      for length in 0...24 {
        let left = [UInt8](repeating: 0, count: offset) + (0..<UInt8(length))
        let right = Array(0..<UInt8(length))
        let a = exactCopy(left)
        let b = exactCopy(right)
        defer {
          a.deallocate()
          b.deallocate()
        }
        func equal() -> Bool {
          Bytes.areEqual(a.baseAddress.map { $0 + offset }, b.baseAddress, count: length)
        }
        #expect(equal())
        for i in 0..<length {
          b[i] ^= 0x80
          #expect(!equal())
          b[i] ^= 0x80
        }
      }
    }
    #expect(Bytes.areEqual(nil, nil, count: 0))
  }
}
