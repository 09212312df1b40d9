import Foundation
import JSONText
import Metering
import Recount
import Testing

@Suite("Reading JSON as RFC 8259 defines it")
struct JSONReaderTests {
  static let accepted: [String] = [
    "null", "true", "false", "0", "-0", "1", "-1", "10", "1234567890", "0.0", "-0.0", "0.5",
    "1.0", "1.25", "1e1", "1E1", "1e+1", "1e-1", "0e0", "0E+00", "-0e-0", "1.5e300", "1e999999",
    "123456789012345678901234567890", "\"\"", "\"a\"", "\" \"", "\"\\\"\"", "\"\\\\\"",
    "\"\\/\"", "\"/\"", "\"\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\u0041\"", "\"\\u00e9\"",
    "\"\\u00E9\"", "\"\\uFFFF\"", "\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\"", "\"\\ud800\"",
    "\"\\udc00\"", "\"\\udc00\\ud800\"", "\"\\ud800\\ud800\"", "\"\\ud800\\u0041\"",
    "\"\\ud800\\n\"", "\"\\ud800x\"", "\"\u{7F}\"", "\"\u{80}\"", "\"é\"", "\"€\"", "\"😀\"",
    "\"\u{FEFF}\"", "\"\u{2028}\u{2029}\"", "\"\u{10FFFF}\"", "\"\u{FFFF}\"", "[]", "[ ]", "[\n]",
    "[1]", "[1,2]", "[ 1 , 2 ]", "[[]]", "[[],[]]", "[null,true,false]", "[\"a\",{}]", "{}",
    "{ }", "{\"a\":1}", "{\"a\":1,\"b\":2}", "{\"a\":1,\"a\":2}", "{\"\":0}", "{\"\\u0061\":1}",
    "{\"a\":{}}", "{\"a\":[]}", "{ \"a\" : 1 , \"b\" : [ ] }", " 1", "1 ", "\t1\t", "\n1\n",
    "\r1\r", " \t\r\n1 \t\r\n", "{\"a\":\"}\"}", "[\"]\"]", "\"//\"", "\"/* */\"",
  ]

  static let refused: [String] = [
    "", " ", "\n", "nul", "nulll", "Null", "NULL", "tru", "truee", "True", "fals", "falsee", "NaN",
    "nan", "Infinity", "-Infinity", "inf", "undefined", "+1", "-", "--1", "- 1", "01", "-01",
    "00", "0x10", "1.", ".1", "-.1", "1.e1", "1e", "1e+", "1e-", "1E", "1e1.5", "1.2.3", "1_000",
    "1,000", "1 2", "1a", "0a", "1f", "٣", "\"", "\"a", "a\"", "'a'", "\"\\\"", "\"\\a\"",
    "\"\\x41\"", "\"\\0\"", "\"\\'\"", "\"\\U0041\"", "\"\\u\"", "\"\\u0\"", "\"\\u00\"",
    "\"\\u004\"", "\"\\u004g\"", "\"\\u 041\"", "\"\\u+041\"", "\"\\u{41}\"", "\"\\ud800\\u\"",
    "\"\\ud800\\ug000\"", "\"\\ud800\\\"", "\"\t\"", "\"\n\"", "\"\r\"", "\"\u{0}\"",
    "\"\u{1}\"", "\"\u{1F}\"", "\"a\"b", "\"a\"\"b\"", "[", "]", "[1", "[1,", "[1,]", "[,1]",
    "[,]", "[1 2]", "[1,,2]", "[1;2]", "[1}", "[[]", "[]]", "[\"a]", "{", "}", "{\"a\"",
    "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{,\"a\":1}", "{\"a\" 1}",
    "{\"a\",1}", "{\"a\"}", "{a:1}", "{'a':1}", "{1:1}", "{null:1}", "{\"a\":}", "{\"a\"::1}",
    "{\"a\":1 \"b\":2}", "{\"a\":1,,\"b\":2}", "{\"a\":1]", "{}{}", "[][]", "{} x", "null null",
    "// c\n1", "1 // c", "/* c */ 1", "[1 /* c */]", "# c\n1", "\u{FEFF}1", "1\u{FEFF}",
    "\u{A0}1", "1\u{A0}", "\u{0B}1", "\u{0C}1", "1\u{0C}", "\u{85}1", "\u{2028}1", "\u{2003}1",
    "1\u{0}", "\u{0}1", "\u{0}", "[\u{0}]", "\\u0031", "{\"a\":1}\u{0}", "\"\\u\u{FF10}041\"",
  ]

  @Test("A text that the grammar allows is read", arguments: accepted)
  func acceptsGrammaticalTexts(text: String) throws {
    _ = try JSONReader.parse(bytes(text))
  }

  @Test("A text that the grammar does not allow is refused", arguments: refused)
  func refusesUngrammaticalTexts(text: String) {
    #expect(throws: JSONError.self) { try JSONReader.parse(bytes(text)) }
  }

  /// These are written by hand from the table of RFC 3629, section 4.
  static let malformed: [[UInt8]] = [
    [0x80], [0xBF], [0xC0, 0x80], [0xC0, 0xAF], [0xC1, 0xBF], [0xC2], [0xC2, 0x22], [0xC2, 0xC0],
    [0xE0, 0x80, 0x80], [0xE0, 0x9F, 0xBF], [0xE0, 0xA0], [0xE0, 0xA0, 0x7F], [0xE1, 0x7F, 0x80],
    [0xED, 0xA0, 0x80], [0xED, 0xAF, 0xBF], [0xED, 0xB0, 0x80], [0xED, 0xBF, 0xBF],
    [0xED, 0xA0, 0xBD, 0xED, 0xB8, 0x80], [0xEF, 0xBF], [0xF0, 0x80, 0x80, 0x80],
    [0xF0, 0x8F, 0xBF, 0xBF], [0xF0, 0x90, 0x80], [0xF4, 0x90, 0x80, 0x80],
    [0xF5, 0x80, 0x80, 0x80], [0xF8, 0x88, 0x80, 0x80, 0x80], [0xFE], [0xFF],
    [0xF0, 0x90, 0x80, 0x80, 0x80],
  ]

  @Test("Malformed UTF-8 is refused wherever it is", arguments: malformed)
  func refusesMalformedUTF8(sequence: [UInt8]) {
    for value in [[0x22] + sequence + [0x22], sequence, [0x31] + sequence] as [[UInt8]] {
      #expect(throws: JSONError.self) { try JSONReader.parse(value) }
    }
  }

  @Test("Every scalar of Unicode is read, raw and escaped, as itself")
  func readsEveryScalar() throws {
    for point in UInt32(0)...0x10FFFF {
      guard let scalar = Unicode.Scalar(point), point >= 0x20, point != 0x22, point != 0x5C
      else { continue }
      let raw = Array(String(scalar).utf8)
      let expected = JSONValue.string(JSONString(bytes: raw))
      // This compares without #expect, because a million expectations take minutes.
      guard try JSONReader.parse([0x22] + raw + [0x22]) == expected else {
        Issue.record("raw U+\(String(point, radix: 16))")
        return
      }
      guard point % 7 == 0 else { continue }
      let units = String(scalar).utf16.map { unit in
        "\\u" + String(repeating: "0", count: 4 - String(unit, radix: 16).count)
          + String(unit, radix: 16)
      }
      guard try JSONReader.parse(bytes("\"" + units.joined() + "\"")) == expected else {
        Issue.record("escaped U+\(String(point, radix: 16))")
        return
      }
    }
  }

  @Test("Lone surrogates are reported, pairs and plain escapes are not")
  func reportsLoneSurrogates() throws {
    func isLone(_ json: String) throws -> Bool? {
      guard case .string(let string) = try JSONReader.parse(bytes(json)) else { return nil }
      return string.hasLoneSurrogate
    }
    for lone in [
      #""\ud800""#, #""\udfff""#, #""\udbffx""#, #""\ud800\ud800\udc00""#, #""\udc00\ud800""#,
      #""\ud83d\ude00\ud83d""#, #""\ud800\n""#, #""\ud800\\udc00""#,
    ] {
      #expect(try isLone(lone) == true, "\(lone)")
    }
    for whole in [#""\ud83d\ude00""#, #""\ue000""#, #""\ud7ff""#, #""\uffff""#, #""\u0000""#] {
      #expect(try isLone(whole) == false, "\(whole)")
    }
  }

  @Test("A lone surrogate before a pair leaves the pair whole")
  func keepsThePairBehindALoneSurrogate() throws {
    let value = try JSONReader.parse(bytes(#""\ud800\ud83d\ude00""#))
    let expected = JSONString(bytes: [0xED, 0xA0, 0x80] + bytes("😀"), hasLoneSurrogate: true)
    #expect(value == .string(expected))
  }

  @Test("Numbers keep their own text", arguments: ["-0", "1.0", "1e2", "1E+02", "0.10", "12345"])
  func keepsNumbersAsText(token: String) throws {
    #expect(try JSONReader.parse(bytes(token)) == .number(token))
  }

  @Test("Members stay in order with their repetitions, and the last one of a name is found")
  func keepsRepeatedMembers() throws {
    guard case .object(let members) = try JSONReader.parse(bytes(#"{"a":1,"b":2,"\u0061":3}"#))
    else {
      Issue.record("not an object")
      return
    }
    #expect(members.map(\.value) == [.number("1"), .number("2"), .number("3")])
    #expect(members["a"] == .number("3"))
    #expect(members["c"] == nil)
  }

  @Test("A depth of 512 is read and 513 is refused, for any mix of arrays and objects")
  func boundsTheDepth() throws {
    let shapes = [("[", "1", "]"), ("{\"a\":", "1", "}"), ("[{\"a\":", "1", "}]")]
    for (opening, inner, closing) in shapes {
      let levels = opening.count { $0 == "[" || $0 == "{" }
      let nested = { (depth: Int) in
        String(repeating: opening, count: depth / levels) + inner
          + String(repeating: closing, count: depth / levels)
      }
      _ = try JSONReader.parse(bytes(nested(512)))
      let over = "[" + nested(512) + "]"
      let error = #expect(throws: JSONError.self) { try JSONReader.parse(bytes(over)) }
      #expect(error?.reason == .tooDeep)
    }
    _ = try JSONReader.parse(
      bytes(String(repeating: "[", count: 512) + String(repeating: "]", count: 512)))
    #expect(throws: JSONError.self) {
      try JSONReader.parse(bytes(String(repeating: "[", count: 60_000)))
    }
  }

  @Test("The greatest depth fits the small stack of a secondary thread")
  func deepestTextFitsASmallStack() async {
    let text = bytes(
      String(repeating: "[{\"a\":", count: 256) + "1" + String(repeating: "}]", count: 256))
    let isRead = await withCheckedContinuation { continuation in
      let thread = Thread {
        let value = Result { try JSONReader.parse(text) }
        if case .success(.array) = value {
          continuation.resume(returning: true)
        } else {
          continuation.resume(returning: false)
        }
      }
      thread.stackSize = 512 * 1024
      thread.start()
    }
    #expect(isRead)
  }

  @Test("An error says where it is")
  func errorsHaveOffsets() {
    let cases: [(String, Int, JSONError.Reason)] = [
      ("", 0, .unexpectedEnd), ("[1,", 3, .unexpectedEnd), ("[1,]", 3, .unexpectedByte),
      ("1 2", 2, .trailingBytes), ("\"a\u{1}\"", 2, .controlCharacter), ("\"\\q\"", 2, .badEscape),
      ("01", 1, .trailingBytes), ("[01]", 2, .unexpectedByte),
    ]
    for (text, offset, reason) in cases {
      let error = #expect(throws: JSONError.self) { try JSONReader.parse(bytes(text)) }
      #expect(error == JSONError(offset: offset, reason: reason), "\(text)")
    }
  }

  @Test("No prefix of a valid event is valid, and only white space may follow an event")
  func refusesEveryPrefix() throws {
    let whole = bytes(EventFixture().json)
    for length in 0..<whole.count {
      #expect(throws: JSONError.self) { try JSONReader.parse(Array(whole[..<length])) }
    }
    for byte in UInt8.min...UInt8.max {
      let isRead = (try? JSONReader.parse(whole + [byte])) != nil  // only whether it is read
      #expect(isRead == [0x20, 0x09, 0x0A, 0x0D].contains(byte))
    }
  }

  @Test
  func `Elements of an array are found without being read, and not one too many`() throws {
    func elements(_ text: String, atMost maximum: Int = 3) throws -> [String]? {
      let bytes = Array(text.utf8)
      return try JSONReader.elements(of: bytes, atMost: maximum)?.map {
        String(decoding: bytes[$0], as: UTF8.self)
      }
    }
    #expect(try elements("[]") == [])
    #expect(try elements(" [ ] ") == [])
    #expect(try elements("{}") == nil && elements("5") == nil)
    #expect(
      try elements(#"[{"a":[1,2],"b":"],\"["}, "x,]" ,[[]]]"#) == [
        #"{"a":[1,2],"b":"],\"["}"#, #""x,]" "#, "[[]]",
      ])
    for (text, reason) in [
      ("[1,2,3,4]", .tooManyValues), ("[1,2,3,", .tooManyValues), ("[1,", .unexpectedEnd),
      ("[", .unexpectedEnd), ("[\"a", .unexpectedEnd), ("[\"a\\", .unexpectedEnd),
      ("[,1]", .unexpectedByte), ("[1,]", .unexpectedByte), ("[1}", .unexpectedByte),
      ("[1] 2", .trailingBytes), ("", .unexpectedEnd),
    ] as [(String, JSONError.Reason)] {
      do {
        let found = try elements(text)
        #expect(text.isEmpty && found == nil, "\(text): \(String(describing: found))")
      } catch let error as JSONError {
        #expect(error.reason == reason, "\(text): \(error)")
      }
    }
  }

  @Test
  func `No more values are built than are asked for`() throws {
    #expect(throws: Never.self) {
      try JSONReader.parse(Array("[1,[2],{\"a\":3}]".utf8), maximumValues: 6)
    }
    #expect(throws: JSONError(offset: 14, reason: .tooManyValues)) {
      try JSONReader.parse(Array("[1,[2],{\"a\":  3}]".utf8), maximumValues: 5)
    }
  }
}
