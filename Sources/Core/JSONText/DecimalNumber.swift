/// A JSON number as digits and a power of ten. It is exact for every size and spelling (`1.9e9`,
/// `50000.0`, `1e-400`).
package struct DecimalNumber: Sendable, Equatable {
  package private(set) var isNegative = false
  /// The digits without leading and trailing zeros. An empty list stands for zero.
  private var digits: [UInt8] = []
  /// The value is `digits × 10^exponent`.
  private var exponent = 0

  /// Larger exponents have no use and count as this one.
  private static let maximumExponent = 1_000_000
  /// The most digits that always fit into 64 bits.
  private static let maximumDigits = 19

  /// - Parameter text: a number as in RFC 8259, which the reader has checked. The result is nil for
  ///   any other text.
  package init?(_ text: String) {
    var rest = Array(text.utf8)[...]
    isNegative = rest.first == UInt8(ascii: "-")
    if isNegative { rest.removeFirst() }
    let integer = Self.takeDigits(&rest)
    guard !integer.isEmpty else { return nil }
    var fraction: [UInt8] = []
    if rest.first == UInt8(ascii: ".") {
      rest.removeFirst()
      fraction = Self.takeDigits(&rest)
      guard !fraction.isEmpty else { return nil }
    }
    if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
      rest.removeFirst()
      guard let power = Self.takeExponent(&rest) else { return nil }
      exponent = power
    }
    guard rest.isEmpty else { return nil }
    digits = Array((integer + fraction).drop { $0 == 0 })
    exponent -= fraction.count
    while digits.last == 0 {
      digits.removeLast()
      exponent += 1
    }
    if digits.isEmpty { exponent = 0 }
  }

  private static func takeDigits(_ text: inout ArraySlice<UInt8>) -> [UInt8] {
    let digits = text.prefix { (0x30...0x39).contains($0) }
    text = text[digits.endIndex...]
    return digits.map { $0 - 0x30 }
  }

  private static func takeExponent(_ text: inout ArraySlice<UInt8>) -> Int? {
    let sign = text.first
    if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { text.removeFirst() }
    let digits = takeDigits(&text)
    guard !digits.isEmpty else { return nil }
    let power = digits.reduce(0) { min($0 * 10 + Int($1), maximumExponent) }
    return sign == UInt8(ascii: "-") ? -power : power
  }

  /// The number as an integer. Nil if it has a fraction or does not fit into 64 bits.
  package var integer: Int64? { isWhole(behind: 0) ? roundedDown(decimals: 0) : nil }

  /// The number times `10^decimals`, rounded towards negative infinity. Nil if that does not fit
  /// into 64 bits.
  package func roundedDown(decimals: Int) -> Int64? {
    let power = exponent + decimals
    let kept = power < 0 ? digits.dropLast(min(-power, digits.count)) : digits[...]
    let zeros = kept.isEmpty ? 0 : max(power, 0)
    guard kept.count + zeros <= Self.maximumDigits else { return nil }
    var value: Int64 = 0
    for digit in kept + repeatElement(0, count: zeros) {
      let (tenfold, isTooLarge) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflows) = tenfold.addingReportingOverflow(Int64(digit))
      guard !isTooLarge, !overflows else { return nil }
      value = sum
    }
    guard isNegative else { return value }
    return isWhole(behind: decimals) ? -value : -value - 1
  }

  private func isWhole(behind decimals: Int) -> Bool { digits.isEmpty || exponent + decimals >= 0 }
}
