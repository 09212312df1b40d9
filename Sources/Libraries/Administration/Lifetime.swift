/// Reads durations as people write them, such as `15m`, `12h` and `90d`.
package enum Lifetime {
  /// Returns nil unless it is a number from 1 to 100,000 with a unit.
  package static func seconds(_ text: String) -> Int64? {
    guard (2...7).contains(text.utf8.count), text.utf8.allSatisfy({ $0 < 0x80 && $0 != 0x2B }),
      let count = Int64(text.dropLast()), (1...100_000).contains(count)
    else { return nil }
    switch text.last {
    case "m": return count * 60
    case "h": return count * 3_600
    case "d": return count * 86_400
    default: return nil
    }
  }
}
