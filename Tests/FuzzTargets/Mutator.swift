import Metering

/// Changes inputs as a stranger who knows the format would: bits, special bytes, numbers, and
/// pieces of other inputs. The same seed makes the same inputs.
package struct Mutator {
  private static let maximumBytes = 70_000
  private static let special: [UInt8] =
    Array("\u{0}\t\n\r \"%'*+,-./0:;<=>@[\\]{|}~".utf8) + [
      0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF,
    ]
  private static let words = [
    "null", "true", "1e400", "-0", "9223372036854775807", "9223372036854775808", "0x10", "\\u0000",
    "\\ud800", "\u{0130}", "ß", "xn--", "..", "//", "\r\n\r\n", "chunked", "{}", "[[[[", "\"\"",
  ].map { Array($0.utf8) }

  private var random: SplitMix64
  private let corpus: [[UInt8]]

  /// - Precondition: `corpus` is not empty.
  package init(seed: UInt64, corpus: [[UInt8]]) {
    precondition(!corpus.isEmpty, "a mutator needs something to change")
    random = SplitMix64(seed: seed)
    self.corpus = corpus
  }

  /// The next input is one of the corpus, changed in one to eight places.
  package mutating func next() -> [UInt8] {
    var bytes = pick(corpus)
    for _ in 0...Int.random(in: 0..<8, using: &random) { change(&bytes) }
    return Array(bytes.prefix(Self.maximumBytes))
  }

  private mutating func pick<T>(_ choices: [T]) -> T {
    choices[Int.random(in: 0..<choices.count, using: &random)]
  }

  private mutating func change(_ bytes: inout [UInt8]) {
    let at = Int.random(in: 0...bytes.count, using: &random)
    let end = min(bytes.count, at + Int.random(in: 1...32, using: &random))
    switch Int.random(in: 0..<8, using: &random) {
    case 0 where at < bytes.count: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1 where at < bytes.count: bytes[at] = pick(Self.special)
    case 2: bytes.insert(pick(Self.special), at: at)
    case 3: bytes.removeSubrange(at..<end)
    case 4: bytes.insert(contentsOf: bytes[at..<end], at: at)
    case 5: bytes.replaceSubrange(at..<end, with: pick(Self.words))
    case 6:
      let other = pick(corpus)
      let from = Int.random(in: 0...other.count, using: &random)
      bytes.replaceSubrange(
        at..<end, with: other[from..<min(other.count, from + (end - at) * 2)])
    default: bytes.removeSubrange(at...)
    }
  }
}
