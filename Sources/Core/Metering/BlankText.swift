extension StringProtocol {
  /// Whether there is nothing to read: no character, or only white space.
  package var isBlank: Bool { allSatisfy(\.isWhitespace) }
}
