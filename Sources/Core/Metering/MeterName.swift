/// The names of meters, which are what usage is counted by.
package enum MeterName {
  /// Whether the name matches `[a-z][a-z0-9_]{0,63}`.
  package static func isValid(_ name: String) -> Bool {
    guard (1...Limits.meterBytes).contains(name.utf8.count), let first = name.utf8.first,
      (0x61...0x7A).contains(first)
    else { return false }
    return name.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "_")
    }
  }
}
