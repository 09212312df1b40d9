import Metering

/// A strict scanner of RFC 8259 that works in one pass without allocation and without recursion.
///
/// Design constraints:
/// - It accepts exactly the grammar, even in the parts that nobody reads. Otherwise one reader
///   could accept and count a payload that another reader refuses.
/// - It works on borrowed bytes and returns positions. Texts are copied only if they contain
///   escapes.
/// - A bit stack of `Limits.nestingDepth` bits bounds the nesting, so hostile depth costs no stack.
///
/// Every method leaves `position` after what it read. It returns false (or nil) on the first
/// violation, and the scanner cannot be used after that.
///
/// The bytes are borrowed, so the buffer must outlive the scanner. (`RawSpan` expresses this in the
/// type, but a type that stores one still needs an experimental feature in Swift 6.3.)
package struct JSONScanner {
  private let bytes: UnsafeRawPointer
  private let count: Int
  package private(set) var position = 0

  package init(_ buffer: UnsafeRawBufferPointer) {
    // An empty buffer may have no address, but no byte is read from it.
    bytes = buffer.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!
    count = buffer.count
  }

  @inline(__always)
  private func byte(_ i: Int) -> UInt8 {
    // Every caller has compared i with count.
    bytes.load(fromByteOffset: i, as: UInt8.self)
  }

  @inline(__always)
  private func word(_ i: Int) -> UInt64 {
    // Every caller has compared i + 8 with count.
    bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self)
  }

  /// The next byte that is not white space, without consuming it. Nil at the end.
  @inline(__always)
  package mutating func peek() -> UInt8? {
    while position < count {
      let b = byte(position)
      if b > 0x20 { return b }
      if b != 0x20 && b != 0x0A && b != 0x0D && b != 0x09 { return b }
      position += 1
    }
    return nil
  }

  /// Consumes `expected` and white space before it.
  @inline(__always)
  package mutating func take(_ expected: UInt8) -> Bool {
    guard peek() == expected else { return false }
    position += 1
    return true
  }

  /// Consumes exactly these bytes, if they are next.
  @inline(__always)
  package mutating func take(_ expected: UnsafeRawPointer, _ length: Int) -> Bool {
    guard length <= count - position, Bytes.areEqual(bytes + position, expected, count: length)
    else { return false }
    position += length
    return true
  }

  /// Whether only white space is left.
  package mutating func atEnd() -> Bool { peek() == nil }

  /// Reads a member's name and the colon after it.
  ///
  /// Names of up to 7 bytes, which most of ours are, take one load. Names with escapes go through
  /// `unescape`.
  @inline(__always)
  package mutating func name(unescape: (StringToken) -> MemberName) -> MemberName? {
    if position + 9 <= count, byte(position) == 0x22 {
      let w = word(position + 1)
      let special = Self.specialBytes(w)
      let length = special.trailingZeroBitCount >> 3
      if special != 0, byte(position + 1 + length) == 0x22 {
        position += length + 2
        guard take(0x3A) else { return nil }
        // Shifting by 64 gives 0, which stands for the empty name.
        return MemberName(length: length, first: w & ~(~0 << UInt64(length * 8)), second: 0)
      }
    }
    guard let token = string(), take(0x3A) else { return nil }
    if token.hasEscapes { return unescape(token) }
    return MemberName(
      UnsafeRawBufferPointer(start: bytes + token.start, count: token.end - token.start))
  }

  /// Reads a string whose opening quote is next. The token's range lies between the quotes.
  @inline(__always)
  package mutating func string() -> StringToken? {
    guard take(0x22) else { return nil }
    return restOfString()
  }

  /// Reads a string whose opening quote has been taken.
  @inline(__always)
  package mutating func restOfString() -> StringToken? {
    let start = position
    var i = start
    // Takes eight bytes at a time while they are plain ASCII without quotes, backslashes or
    // controls.
    while i + 8 <= count {
      let w = word(i)
      let special = Self.specialBytes(w)
      if special == 0 {
        i += 8
        continue
      }
      i += special.trailingZeroBitCount >> 3
      if byte(i) == 0x22 {
        position = i + 1
        return StringToken(start: start, end: i, hasEscapes: false)
      }
      break
    }
    return stringSlowly(start: start, from: i)
  }

  /// Sets the high bit of each byte that is a quote, a backslash, a control or not ASCII. Only the
  /// lowest bit that is set is exact.
  @inline(__always)
  private static func specialBytes(_ w: UInt64) -> UInt64 {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let high: UInt64 = 0x8080_8080_8080_8080
    let quote = w ^ (ones &* 0x22)
    let backslash = w ^ (ones &* 0x5C)
    let control = w &- (ones &* 0x20)
    return (((quote &- ones) & ~quote) | ((backslash &- ones) & ~backslash) | (control & ~w) | w)
      & high
  }

  private mutating func stringSlowly(start: Int, from: Int) -> StringToken? {
    var i = from
    var hasEscapes = false
    while i < count {
      let b = byte(i)
      switch b {
      case 0x22:
        position = i + 1
        return StringToken(start: start, end: i, hasEscapes: hasEscapes)
      case 0x5C:
        hasEscapes = true
        guard i + 1 < count else { return nil }
        switch byte(i + 1) {
        case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: i += 2
        case 0x75:
          guard i + 6 <= count else { return nil }
          for k in i + 2..<i + 6 where StringToken.hexDigit(byte(k)) == nil { return nil }
          i += 6
        default: return nil
        }
      case 0..<0x20: return nil
      case 0x20..<0x80: i += 1
      default:
        let length = utf8SequenceLength(i)
        if length == 0 { return nil }
        i += length
      }
    }
    return nil
  }

  /// The length of the well-formed UTF-8 sequence at `i` (2 to 4), or 0. The table is RFC 3629 section 4.
  private func utf8SequenceLength(_ i: Int) -> Int {
    @inline(__always) func at(_ k: Int) -> UInt8 { k < count ? byte(k) : 0 }
    @inline(__always) func tail(_ k: Int) -> Bool { at(k) & 0xC0 == 0x80 }
    let second = at(i + 1)
    switch byte(i) {
    case 0xC2...0xDF: return tail(i + 1) ? 2 : 0
    case 0xE0: return (0xA0...0xBF).contains(second) && tail(i + 2) ? 3 : 0
    case 0xED: return (0x80...0x9F).contains(second) && tail(i + 2) ? 3 : 0
    case 0xE1...0xEF: return tail(i + 1) && tail(i + 2) ? 3 : 0
    case 0xF0: return (0x90...0xBF).contains(second) && tail(i + 2) && tail(i + 3) ? 4 : 0
    case 0xF1...0xF3: return tail(i + 1) && tail(i + 2) && tail(i + 3) ? 4 : 0
    case 0xF4: return (0x80...0x8F).contains(second) && tail(i + 2) && tail(i + 3) ? 4 : 0
    default: return 0
    }
  }

  /// Reads a number. Returns nil if it breaks the grammar.
  package mutating func number() -> NumberToken? {
    var i = position
    let isNegative = i < count && byte(i) == 0x2D
    if isNegative { i += 1 }
    let digits = i
    var magnitude: UInt64 = 0
    var overflows = false
    while i < count, byte(i) &- 0x30 < 10 {
      let (product, o1) = magnitude.multipliedReportingOverflow(by: 10)
      let (sum, o2) = product.addingReportingOverflow(UInt64(byte(i) &- 0x30))
      magnitude = sum
      overflows = overflows || o1 || o2
      i += 1
    }
    guard i > digits, i == digits + 1 || byte(digits) != 0x30 else { return nil }
    var isInteger = true
    if i < count, byte(i) == 0x2E {
      isInteger = false
      i += 1
      guard skipDigits(&i) else { return nil }
    }
    if i < count, byte(i) | 0x20 == 0x65 {
      isInteger = false
      i += 1
      if i < count, byte(i) == 0x2B || byte(i) == 0x2D { i += 1 }
      guard skipDigits(&i) else { return nil }
    }
    position = i
    return NumberToken(
      magnitude: magnitude, isNegative: isNegative, isInteger: isInteger && !overflows)
  }

  private func skipDigits(_ i: inout Int) -> Bool {
    let start = i
    while i < count, byte(i) &- 0x30 < 10 { i += 1 }
    return i > start
  }

  private mutating func literal(_ rest: StaticString) -> Bool {
    let length = rest.utf8CodeUnitCount
    guard position + length <= count else { return false }
    for k in 0..<length where byte(position + k) != rest.utf8Start[k] { return false }
    position += length
    return true
  }

  /// Reads `true`, `false` or `null`.
  package mutating func literal() -> JSONKind? {
    switch peek() {
    case 0x74: literal("true") ? .true : nil
    case 0x66: literal("false") ? .false : nil
    case 0x6E: literal("null") ? .null : nil
    default: nil
    }
  }

  /// Skips one whole value that lies inside `depth` open containers.
  package mutating func skipValue(depth: Int) -> JSONKind? {
    guard let first = peek() else { return nil }
    switch first {
    case 0x22: return string() == nil ? nil : .string
    case 0x7B, 0x5B: return skipContainer(depth: depth) ? (first == 0x7B ? .object : .array) : nil
    case 0x2D, 0x30...0x39: return number() == nil ? nil : .number
    default: return literal()
    }
  }

  private mutating func skipContainer(depth base: Int) -> Bool {
    var isObject = BitStack()
    var depth = 0
    while true {
      // A value is next here.
      guard let first = peek() else { return false }
      switch first {
      case 0x7B, 0x5B:
        guard base + depth < Limits.nestingDepth else { return false }
        position += 1
        isObject.set(depth, first == 0x7B)
        depth += 1
        if peek() == (first == 0x7B ? 0x7D : 0x5D) {
          position += 1
          depth -= 1
          break
        }
        if first == 0x7B { guard memberName() else { return false } }
        continue
      case 0x22: guard string() != nil else { return false }
      case 0x2D, 0x30...0x39: guard number() != nil else { return false }
      default: guard literal() != nil else { return false }
      }
      // A value has ended here.
      while true {
        if depth == 0 { return true }
        let inObject = isObject[depth - 1]
        guard let next = peek() else { return false }
        position += 1
        if next == 0x2C {
          if inObject { guard memberName() else { return false } }
          break
        }
        guard next == (inObject ? 0x7D : 0x5D) else { return false }
        depth -= 1
      }
    }
  }

  private mutating func memberName() -> Bool { string() != nil && take(0x3A) }
}

/// A member's name in a form that can be compared by numbers. It consists of the length and the
/// first 16 bytes in the machine's (little-endian) order.
package struct MemberName {
  package let length: Int
  package let first: UInt64
  package let second: UInt64

  @inline(__always)
  init(length: Int, first: UInt64, second: UInt64) {
    self.length = length
    self.first = first
    self.second = second
  }

  init(_ bytes: UnsafeRawBufferPointer) {
    var words: (UInt64, UInt64) = (0, 0)
    withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: bytes.prefix(16)) }
    self.init(length: bytes.count, first: words.0, second: words.1)
  }
}

/// The kind of a value.
package enum JSONKind: UInt8, Sendable { case string, number, object, array, `true`, `false`, null }

/// A number as in RFC 8259. `isInteger` is true if it is written without fraction and exponent, and
/// if its magnitude fits into 64 bits.
package struct NumberToken: Sendable {
  package let magnitude: UInt64
  package let isNegative: Bool
  package let isInteger: Bool

  /// The value, if it is an integer from 0 to `limit`. `-0` is 0.
  @inline(__always)
  package func integer(upTo limit: Int64) -> Int64? {
    guard isInteger, magnitude <= UInt64(limit), !isNegative || magnitude == 0 else { return nil }
    return Int64(magnitude)
  }
}

/// One bit for each open container, which says whether it is an object or an array.
private struct BitStack {
  private var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) =
    (0, 0, 0, 0, 0, 0, 0, 0)

  subscript(_ i: Int) -> Bool {
    withUnsafeBytes(of: words) {
      $0.load(fromByteOffset: (i >> 6) * 8, as: UInt64.self) & (1 << UInt64(i & 63)) != 0
    }
  }

  mutating func set(_ i: Int, _ value: Bool) {
    withUnsafeMutableBytes(of: &words) {
      let old = $0.load(fromByteOffset: (i >> 6) * 8, as: UInt64.self)
      let bit: UInt64 = 1 << UInt64(i & 63)
      $0.storeBytes(of: value ? old | bit : old & ~bit, toByteOffset: (i >> 6) * 8, as: UInt64.self)
    }
  }
}
