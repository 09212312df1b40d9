/// Punycode (RFC 3492) with the parameters of IDNA, for one label without its `xn--`.
enum Punycode {
  private static let base: UInt32 = 36
  private static let tMin: UInt32 = 1
  private static let tMax: UInt32 = 26
  private static let skew: UInt32 = 38
  private static let damp: UInt32 = 700
  private static let initialBias: UInt32 = 72
  private static let initialN: UInt32 = 0x80
  /// A label has at most 63 letters, so no number in it comes near 2^32.
  private static let maximumScalars = 63

  /// Returns nil if the label is too long.
  static func encode(_ label: [Unicode.Scalar]) -> String? {
    guard label.count <= maximumScalars else { return nil }
    var output = label.filter(\.isASCII).map { UInt8($0.value) }
    let basic = UInt32(output.count)
    if basic > 0 { output.append(UInt8(ascii: "-")) }
    var (n, delta, bias, handled) = (initialN, UInt32(0), initialBias, basic)
    while handled < UInt32(label.count) {
      guard let next = label.lazy.map(\.value).filter({ $0 >= n }).min() else { return nil }
      delta += (next - n) * (handled + 1)
      n = next
      for scalar in label {
        if scalar.value < n { delta += 1 }
        guard scalar.value == n else { continue }
        append(delta, bias, to: &output)
        bias = adapted(delta, points: handled + 1, isFirst: handled == basic)
        delta = 0
        handled += 1
      }
      delta += 1
      n += 1
    }
    return String(decoding: output, as: UTF8.self)
  }

  /// Returns nil if the text is not punycode, or if it is too long.
  static func decode(_ text: String) -> [Unicode.Scalar]? {
    let bytes = Array(text.utf8)
    guard (1...maximumScalars).contains(bytes.count), bytes.allSatisfy({ $0 < 0x80 }) else {
      return nil
    }
    let dash = bytes.lastIndex(of: UInt8(ascii: "-"))
    var label = dash.map { bytes[..<$0].map { Unicode.Scalar($0) } } ?? []
    var position = dash.map { $0 + 1 } ?? 0
    var (n, i, bias) = (initialN, UInt32(0), initialBias)
    while position < bytes.count {
      let before = i
      guard add(bytes, &position, bias, to: &i) else { return nil }
      let points = UInt32(label.count) + 1
      bias = adapted(i - before, points: points, isFirst: before == 0)
      let (sum, isTooLarge) = n.addingReportingOverflow(i / points)
      guard !isTooLarge, let scalar = Unicode.Scalar(sum) else { return nil }
      n = sum
      i %= points
      label.insert(scalar, at: Int(i))
      i += 1
    }
    return label
  }

  /// Adds a number of variable length after `position`.
  private static func add(
    _ bytes: [UInt8], _ position: inout Int, _ bias: UInt32, to i: inout UInt32
  ) -> Bool {
    var weight: UInt32 = 1
    var k = base
    while true {
      guard position < bytes.count, let digit = digit(bytes[position]) else { return false }
      position += 1
      let (product, isTooLarge) = digit.multipliedReportingOverflow(by: weight)
      let (sum, overflows) = i.addingReportingOverflow(product)
      guard !isTooLarge, !overflows else { return false }
      i = sum
      let threshold = threshold(k, bias)
      if digit < threshold { return true }
      let (next, grows) = weight.multipliedReportingOverflow(by: base - threshold)
      guard !grows else { return false }
      weight = next
      k += base
    }
  }

  private static func append(_ delta: UInt32, _ bias: UInt32, to output: inout [UInt8]) {
    var q = delta
    var k = base
    while true {
      let threshold = threshold(k, bias)
      if q < threshold { break }
      output.append(letter(threshold + (q - threshold) % (base - threshold)))
      q = (q - threshold) / (base - threshold)
      k += base
    }
    output.append(letter(q))
  }

  private static func threshold(_ k: UInt32, _ bias: UInt32) -> UInt32 {
    k <= bias ? tMin : min(max(k - bias, tMin), tMax)
  }

  private static func adapted(_ delta: UInt32, points: UInt32, isFirst: Bool) -> UInt32 {
    var delta = isFirst ? delta / damp : delta / 2
    delta += delta / points
    var k: UInt32 = 0
    while delta > (base - tMin) * tMax / 2 {
      delta /= base - tMin
      k += base
    }
    return k + (base - tMin + 1) * delta / (delta + skew)
  }

  private static func letter(_ digit: UInt32) -> UInt8 {
    UInt8(digit < 26 ? digit + 0x61 : digit - 26 + 0x30)
  }

  private static func digit(_ letter: UInt8) -> UInt32? {
    switch letter {
    case 0x61...0x7A: UInt32(letter) - 0x61
    case 0x30...0x39: UInt32(letter) - 0x30 + 26
    default: nil
    }
  }
}
