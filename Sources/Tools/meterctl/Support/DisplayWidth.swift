/// How many columns a text takes on a terminal.
///
/// Characters of East Asian scripts and most emoji take two (Unicode Standard Annex 11, "W" and
/// "F"). Marks that combine with the character before them take none.
enum DisplayWidth {
  static func of(_ text: some StringProtocol) -> Int {
    text.reduce(0) { $0 + of($1) }
  }

  static func of(_ character: Character) -> Int {
    guard let first = character.unicodeScalars.first else { return 0 }
    if first.value < 0x1100 { return 1 }
    let hasEmojiStyle = character.unicodeScalars.contains { $0.value == 0xFE0F }
    return hasEmojiStyle || first.properties.isEmojiPresentation || isWide(first.value) ? 2 : 1
  }

  /// The longest beginning of a text that fits.
  static func prefix(_ text: String, columns: Int) -> Substring {
    var left = columns
    let end = text.firstIndex { character in
      left -= of(character)
      return left < 0
    }
    return text[..<(end ?? text.endIndex)]
  }

  private static let wide: [ClosedRange<UInt32>] = [
    0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x4DBF, 0x4E00...0xA4CF, 0xA960...0xA97C,
    0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6,
    0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD,
  ]

  private static func isWide(_ scalar: UInt32) -> Bool { wide.contains { $0.contains(scalar) } }
}
