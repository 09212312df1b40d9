/// A strict reader of RFC 8259 that follows its grammar byte by byte.
///
/// The text must be UTF-8 as in RFC 3629 without a byte order mark, with only white space around
/// the value. Lone surrogates in escapes are grammatical and are reported with the string.
package struct JSONReader {
  /// The largest depth of nested arrays and objects. The outermost has depth 1.
  package static let maximumDepth = 512

  private let bytes: [UInt8]
  private var offset = 0
  /// How many more values may be read.
  private var valuesLeft: Int

  private init(bytes: [UInt8], maximumValues: Int = .max) {
    self.bytes = bytes
    valuesLeft = maximumValues
  }

  /// Reads `bytes` as one JSON text, in time linear in their number.
  ///
  /// - Parameter maximumValues: bounds the tree that is built, and so the memory. A value takes a
  ///   hundred times as much memory as its byte in the text.
  /// - Throws: `JSONError` for the first violation. Malformed UTF-8 anywhere comes before all
  ///   others.
  package static func parse(
    _ bytes: [UInt8], maximumValues: Int = .max
  ) throws(JSONError) -> JSONValue {
    if let malformed = UTF8Validation.firstMalformedOffset(in: bytes) {
      throw JSONError(offset: malformed, reason: .malformedUTF8)
    }
    var reader = JSONReader(bytes: bytes, maximumValues: maximumValues)
    reader.skipWhiteSpace()
    let value = try reader.readValue()
    reader.skipWhiteSpace()
    if reader.offset < bytes.count {
      throw JSONError(offset: reader.offset, reason: .trailingBytes)
    }
    return value
  }

  /// The places of the elements if the outermost value of the text is an array, and nil otherwise.
  ///
  /// This looks only at brackets, commas and strings, and builds no tree. So an element may not be
  /// JSON, which its reader will find out. The text is JSON if every element is. The time is linear
  /// in the bytes.
  ///
  /// - Throws: `JSONError`. It is `tooManyValues` as soon as there is one element too many.
  package static func elements(
    of bytes: [UInt8], atMost maximum: Int
  ) throws(JSONError) -> [Range<Int>]? {
    if let malformed = UTF8Validation.firstMalformedOffset(in: bytes) {
      throw JSONError(offset: malformed, reason: .malformedUTF8)
    }
    var reader = JSONReader(bytes: bytes)
    var ranges: [Range<Int>] = []
    reader.skipWhiteSpace()
    guard reader.skip("[") else { return nil }
    reader.skipWhiteSpace()
    if !reader.skip("]") {
      repeat {
        reader.skipWhiteSpace()
        let start = reader.offset
        guard ranges.count < maximum else {
          throw JSONError(offset: start, reason: .tooManyValues)
        }
        try reader.skipElement()
        guard reader.offset > start else {
          throw JSONError(offset: start, reason: .unexpectedByte)
        }
        ranges.append(start..<reader.offset)
      } while reader.skip(",")
      try reader.expect("]")
    }
    reader.skipWhiteSpace()
    guard reader.offset == bytes.count else {
      throw JSONError(offset: reader.offset, reason: .trailingBytes)
    }
    return ranges
  }

  /// Advances to the comma or the bracket that ends an element.
  private mutating func skipElement() throws(JSONError) {
    var depth = 0
    while true {
      switch try peek() {
      case UInt8(ascii: "\""):
        offset += 1
        while try peek() != UInt8(ascii: "\"") {
          offset += bytes[offset] == UInt8(ascii: "\\") ? 2 : 1
        }
      case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        if depth == 0 { return }
        depth -= 1
      case UInt8(ascii: ",") where depth == 0: return
      default: break
      }
      offset += 1
    }
  }

  // MARK: Values

  /// An array or object that is not closed yet.
  private struct Container {
    var isObject: Bool
    /// The name of the next value, if the container is an object.
    var name = JSONString(bytes: [])
    var members: [JSONMember] = []
    var elements: [JSONValue] = []

    mutating func append(_ value: JSONValue) {
      if isObject {
        members.append(JSONMember(name: name, value: value))
      } else {
        elements.append(value)
      }
    }

    var value: JSONValue { isObject ? .object(members) : .array(elements) }
  }

  /// The open containers are a list, not the call stack. 512 levels of unoptimized frames overflow
  /// the 512 KiB of a secondary thread, which has happened.
  private mutating func readValue() throws(JSONError) -> JSONValue {
    var open: [Container] = []
    while true {
      // A value begins here.
      let first = try peek()
      guard valuesLeft > 0 else { throw JSONError(offset: offset, reason: .tooManyValues) }
      valuesLeft -= 1
      if first == UInt8(ascii: "{") || first == UInt8(ascii: "[") {
        if open.count == Self.maximumDepth {
          throw JSONError(offset: offset, reason: .tooDeep)
        }
        offset += 1
        skipWhiteSpace()
        open.append(Container(isObject: first == UInt8(ascii: "{")))
        if try !closes(open[open.count - 1]) {
          try readName(of: &open[open.count - 1])
          continue
        }
      } else {
        let scalar = try readScalar()
        guard !open.isEmpty else { return scalar }
        open[open.count - 1].append(scalar)
      }
      // A value or an empty container has ended, so close the containers that end here.
      skipWhiteSpace()
      while try closes(open[open.count - 1]) {
        offset += 1
        let value = open.removeLast().value
        guard !open.isEmpty else { return value }
        open[open.count - 1].append(value)
        skipWhiteSpace()
      }
      try expect(",")
      skipWhiteSpace()
      try readName(of: &open[open.count - 1])
    }
  }

  /// Whether the container's closing bracket comes next.
  private func closes(_ container: Container) throws(JSONError) -> Bool {
    try peek() == (container.isObject ? UInt8(ascii: "}") : UInt8(ascii: "]"))
  }

  /// Reads the name and the colon before a value of an object. An array has neither.
  private mutating func readName(of container: inout Container) throws(JSONError) {
    guard container.isObject else { return }
    container.name = try readString()
    skipWhiteSpace()
    try expect(":")
    skipWhiteSpace()
  }

  private mutating func readScalar() throws(JSONError) -> JSONValue {
    switch try peek() {
    case UInt8(ascii: "\""): return .string(try readString())
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      return .number(try readNumber())
    case UInt8(ascii: "t"):
      try readWord("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try readWord("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try readWord("null")
      return .null
    default: throw JSONError(offset: offset, reason: .unexpectedByte)
    }
  }

  private mutating func readWord(_ word: StaticString) throws(JSONError) {
    for index in 0..<word.utf8CodeUnitCount {
      guard try peek() == word.utf8Start[index] else {
        throw JSONError(offset: offset, reason: .unexpectedByte)
      }
      offset += 1
    }
  }

  // MARK: Numbers

  /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
  private mutating func readNumber() throws(JSONError) -> String {
    let start = offset
    skip("-")
    if try peek() == UInt8(ascii: "0") {
      offset += 1  // A digit after it is then an unexpected byte.
    } else {
      try readDigits()
    }
    if skip(".") {
      try readDigits()
    }
    if skip("e") || skip("E") {
      if !skip("+") {
        skip("-")
      }
      try readDigits()
    }
    return String(decoding: bytes[start..<offset], as: UTF8.self)
  }

  /// One digit or more.
  private mutating func readDigits() throws(JSONError) {
    guard isDigit(try peek()) else { throw JSONError(offset: offset, reason: .unexpectedByte) }
    while offset < bytes.count, isDigit(bytes[offset]) {
      offset += 1
    }
  }

  private func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  // MARK: Strings

  private mutating func readString() throws(JSONError) -> JSONString {
    try expect("\"")
    var string = JSONString(bytes: [])
    while true {
      // Characters without escapes are taken in one piece.
      let start = offset
      while offset < bytes.count, standsForItself(bytes[offset]) { offset += 1 }
      string.bytes += bytes[start..<offset]
      switch try peek() {
      case UInt8(ascii: "\""):
        offset += 1
        return string
      case UInt8(ascii: "\\"):
        try readEscape(into: &string)
      default:
        throw JSONError(offset: offset, reason: .controlCharacter)
      }
    }
  }

  private func standsForItself(_ byte: UInt8) -> Bool {
    byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
  }

  private mutating func readEscape(into string: inout JSONString) throws(JSONError) {
    try expect("\\")
    let letter = try peek()
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): string.bytes.append(letter)
    case UInt8(ascii: "b"): string.bytes.append(0x08)
    case UInt8(ascii: "f"): string.bytes.append(0x0C)
    case UInt8(ascii: "n"): string.bytes.append(0x0A)
    case UInt8(ascii: "r"): string.bytes.append(0x0D)
    case UInt8(ascii: "t"): string.bytes.append(0x09)
    case UInt8(ascii: "u"):
      try readUnicodeEscape(into: &string)
      return
    default: throw JSONError(offset: offset, reason: .badEscape)
    }
    offset += 1
  }

  /// Reads an escape from its `u` on. If a low surrogate follows a high one, it reads both.
  private mutating func readUnicodeEscape(into string: inout JSONString) throws(JSONError) {
    try expect("u")
    let unit = try readFourHexDigits()
    guard isSurrogate(unit) else {
      appendGeneralizedUTF8(unit, to: &string.bytes)
      return
    }
    if isHighSurrogate(unit), remainderBegins(with: "\\u") {
      let behindFirst = offset
      offset += 2
      let second = try readFourHexDigits()
      if isSurrogate(second), !isHighSurrogate(second) {
        let scalar = 0x10000 + (unit - 0xD800) * 0x400 + (second - 0xDC00)
        appendGeneralizedUTF8(scalar, to: &string.bytes)
        return
      }
      // It is not the other half, so it is read again as a separate escape.
      offset = behindFirst
    }
    string.hasLoneSurrogate = true
    appendGeneralizedUTF8(unit, to: &string.bytes)
  }

  private mutating func readFourHexDigits() throws(JSONError) -> UInt32 {
    var unit: UInt32 = 0
    for _ in 0..<4 {
      let byte = try peek()
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
      default: throw JSONError(offset: offset, reason: .badEscape)
      }
      unit = unit * 16 + UInt32(digit)
      offset += 1
    }
    return unit
  }

  private func isSurrogate(_ unit: UInt32) -> Bool {
    (0xD800...0xDFFF).contains(unit)
  }

  private func isHighSurrogate(_ unit: UInt32) -> Bool {
    (0xD800...0xDBFF).contains(unit)
  }

  /// Appends the UTF-8 of a code point up to U+10FFFF. A surrogate gets the bytes that UTF-8 would
  /// use if it allowed surrogates.
  private func appendGeneralizedUTF8(_ point: UInt32, to bytes: inout [UInt8]) {
    func tail(_ shift: UInt32) -> UInt8 { UInt8(0x80 | (point >> shift) & 0x3F) }
    switch point {
    case 0...0x7F: bytes.append(UInt8(point))
    case 0x80...0x7FF: bytes += [UInt8(0xC0 | point >> 6), tail(0)]
    case 0x800...0xFFFF: bytes += [UInt8(0xE0 | point >> 12), tail(6), tail(0)]
    default: bytes += [UInt8(0xF0 | point >> 18), tail(12), tail(6), tail(0)]
    }
  }

  // MARK: Bytes

  /// The next byte, without reading it.
  private func peek() throws(JSONError) -> UInt8 {
    guard offset < bytes.count else { throw JSONError(offset: offset, reason: .unexpectedEnd) }
    return bytes[offset]
  }

  private mutating func expect(_ character: Unicode.Scalar) throws(JSONError) {
    guard try peek() == UInt8(ascii: character) else {
      throw JSONError(offset: offset, reason: .unexpectedByte)
    }
    offset += 1
  }

  @discardableResult
  private mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard offset < bytes.count, bytes[offset] == UInt8(ascii: character) else { return false }
    offset += 1
    return true
  }

  private func remainderBegins(with text: String) -> Bool {
    bytes[offset...].starts(with: text.utf8)
  }

  /// Skips spaces, tabs, line feeds and carriage returns. No other character is white space in
  /// JSON.
  private mutating func skipWhiteSpace() {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0A, 0x0D: offset += 1
      default: return
      }
    }
  }
}
