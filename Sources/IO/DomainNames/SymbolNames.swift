/// Names with symbols, such as `☕.example`. UTS #46 allows them (its NV8), and browsers send them,
/// but IDNA2008 and therefore libidn2 do not.
///
/// Only names with such a symbol come here. libidn2 still maps and checks all their other letters,
/// piece by piece.
struct SymbolNames {
  /// Converts a name or a piece of one with libidn2. Returns nil if libidn2 refuses it.
  private let strict: (String) -> String?

  /// - Parameter strict: libidn2. It is asked once for each text of a name.
  init(strict: @escaping (String) -> String?) {
    var known: [[UInt8]: String?] = [:]
    self.strict = { text in
      let key = Array(text.utf8)
      if let answer = known[key] { return answer }
      let answer = strict(text)
      known[key] = .some(answer)
      return answer
    }
  }

  /// A name cannot have more. The bounds matter because each symbol is checked separately, and
  /// strangers choose the names.
  private static let maximumScalars = 320
  private static let maximumLabel = 63
  /// With a full stop at the end.
  private static let maximumName = 254
  /// The full stops of UTS #46.
  private static let separators: Set<Unicode.Scalar> = [".", "\u{3002}", "\u{FF0E}", "\u{FF61}"]
  private static let prefix = "xn--"

  func ascii(_ name: String) -> String? {
    let scalars = Array(name.unicodeScalars)
    guard scalars.count <= Self.maximumScalars else { return nil }
    var labels: [String] = []
    var length = 0
    var hasSymbol = false
    for label in scalars.split(
      omittingEmptySubsequences: false, whereSeparator: Self.separators.contains)
    {
      guard let ascii = self.label(Array(label), &hasSymbol) else { return nil }
      length += ascii.utf8.count + (labels.isEmpty ? 0 : 1)
      guard ascii.utf8.count <= Self.maximumLabel, length <= Self.maximumName else { return nil }
      labels.append(ascii)
    }
    return hasSymbol ? labels.joined(separator: ".") : nil
  }

  private func label(_ label: [Unicode.Scalar], _ hasSymbol: inout Bool) -> String? {
    let text = Self.text(label)
    guard label.allSatisfy(\.isASCII) else {
      if let ascii = strict(text) { return ascii.contains(".") ? nil : ascii }
      guard let mapped = mapped(label, &hasSymbol), !Self.text(mapped).hasPrefix(Self.prefix)
      else { return nil }
      if mapped.allSatisfy(\.isASCII) { return Self.text(mapped) }
      return Punycode.encode(mapped).map { Self.prefix + $0 }
    }
    guard text.hasPrefix(Self.prefix), strict(text) == nil else { return text }
    // This is the only spelling of a label that is already mapped.
    guard let decoded = Punycode.decode(String(text.dropFirst(4))),
      !decoded.allSatisfy(\.isASCII), let again = mapped(decoded, &hasSymbol), again == decoded,
      Punycode.encode(decoded).map({ Self.prefix + $0 }) == text
    else { return nil }
    return text
  }

  private func mapped(
    _ label: [Unicode.Scalar], _ hasSymbol: inout Bool
  ) -> [Unicode.Scalar]? {
    var mapped: [Unicode.Scalar] = []
    var piece: [Unicode.Scalar] = []
    /// The marks of the piece that libidn2 maps. Each becomes at least one letter.
    var marks = 0
    for scalar in label where !(0xFE00...0xFE0F).contains(scalar.value) {
      let isMark = Self.isMark(scalar)
      guard isMark, strict(Self.text([scalar])) == nil else {
        piece.append(scalar)
        if isMark { marks += 1 }
        if mapped.count + marks > Self.maximumLabel { return nil }
        continue
      }
      guard let before = mappedPiece(piece) else { return nil }
      mapped += before + [scalar]
      piece = []
      marks = 0
      hasSymbol = true
      if mapped.count > Self.maximumLabel { return nil }
    }
    guard let rest = mappedPiece(piece) else { return nil }
    return mapped + rest
  }

  /// Maps the letters between symbols. Hyphens at their ends need not be at the label's ends.
  private func mappedPiece(_ piece: [Unicode.Scalar]) -> [Unicode.Scalar]? {
    if piece.allSatisfy(\.isASCII) { return piece }
    let head = piece.prefix { $0 == "-" }
    let tail = piece.reversed().prefix { $0 == "-" }
    let letters = Self.text(Array(piece.dropFirst(head.count).dropLast(tail.count)))
    guard let ascii = strict(letters), !ascii.contains(".") else { return nil }
    let own =
      ascii.hasPrefix(Self.prefix)
      ? Punycode.decode(String(ascii.dropFirst(4))) : Array(ascii.unicodeScalars)
    return own.map { Array(head) + $0 + Array(tail) }
  }

  /// Whether it is a symbol or a punctuation mark. UTS #46 maps some of them, and the others stand
  /// for themselves.
  private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
    guard !scalar.isASCII, !disallowed.contains(where: { $0.contains(scalar.value) }) else {
      return false
    }
    switch scalar.properties.generalCategory {
    case .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol, .connectorPunctuation,
      .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      return true
    default: return false
    }
  }

  /// Symbols that UTS #46 disallows. They are comparisons that decompose into ASCII, descriptions
  /// of ideographs, and replacements.
  private static let disallowed: [ClosedRange<UInt32>] = [
    0x2260...0x2260, 0x226E...0x226F, 0x2FF0...0x2FFF, 0x303E...0x303E, 0x31E3...0x31EF,
    0xFE12...0xFE19, 0xFE30...0xFE6F, 0xFFFC...0xFFFD,
  ]

  private static func text(_ scalars: [Unicode.Scalar]) -> String {
    var text = ""
    text.unicodeScalars.append(contentsOf: scalars)
    return text
  }
}
