/// A trace, and the span within it that caused something. W3C Trace Context level 2 writes it in
/// the header `traceparent`, and CloudEvents in the attribute of that name. An example is
/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
///
/// An unreadable value is treated as absent, as the recommendation asks. Tracing never makes a
/// request or an event invalid.
package struct TraceContext: Hashable, Sendable, BitwiseCopyable {
  /// The number of bytes of the text.
  package static let length = 55
  /// `sampled` and `random-trace-id`. The recommendation wants all other flags to be written as 0.
  private static let knownFlags: UInt8 = 0b11
  private static let sampled: UInt8 = 0b1

  /// The first and the last 8 bytes of the trace's id, which are not both 0.
  package let traceHigh: UInt64
  package let traceLow: UInt64
  /// The span that caused what follows. It is never 0.
  package let spanID: UInt64
  package let flags: UInt8

  /// Returns nil if an id is 0, because 0 is not a valid id.
  package init?(traceHigh: UInt64, traceLow: UInt64, spanID: UInt64, flags: UInt8) {
    guard traceHigh | traceLow != 0, spanID != 0 else { return nil }
    self.traceHigh = traceHigh
    self.traceLow = traceLow
    self.spanID = spanID
    self.flags = flags & Self.knownFlags
  }

  /// Reads a `traceparent`. A value of an unknown version is read by the parts of version 00, and
  /// only its flag `sampled` counts.
  package init?(_ text: UnsafeBufferPointer<UInt8>) {
    let dash = UInt8(ascii: "-")
    guard text.count >= Self.length, text[2] == dash, text[35] == dash, text[52] == dash,
      let version = Self.number(text, 0, 2), version != 0xFF,
      version == 0
        ? text.count == Self.length : text.count == Self.length || text[Self.length] == dash,
      let traceHigh = Self.number(text, 3, 16), let traceLow = Self.number(text, 19, 16),
      let spanID = Self.number(text, 36, 16), let flags = Self.number(text, 53, 2)
    else { return nil }
    let isKnown = version == 0
    self.init(
      traceHigh: traceHigh, traceLow: traceLow, spanID: spanID,
      flags: UInt8(flags) & (isKnown ? Self.knownFlags : Self.sampled))
  }

  package init?(_ text: String) {
    var text = text
    guard let context = text.withUTF8({ TraceContext($0) }) else { return nil }
    self = context
  }

  /// Reads hexadecimal digits in lower case. Upper case is refused.
  private static func number(
    _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ count: Int
  ) -> UInt64? {
    var number: UInt64 = 0
    for i in start..<start + count {
      let digit = text[i] &- UInt8(ascii: "0")
      let letter = text[i] &- UInt8(ascii: "a")
      guard digit < 10 || letter < 6 else { return nil }
      number = number << 4 | UInt64(digit < 10 ? digit : letter + 10)
    }
    return number
  }

  package var isSampled: Bool { flags & Self.sampled != 0 }

  /// The context that another span of the same trace passes on. Nil if `spanID` is 0.
  package func child(spanID: UInt64) -> TraceContext? {
    TraceContext(traceHigh: traceHigh, traceLow: traceLow, spanID: spanID, flags: flags)
  }

  // MARK: Texts

  /// The `traceparent`, always of version 00.
  package var traceparent: String {
    String(unsafeUninitializedCapacity: Self.length) { buffer in
      guard let out = buffer.baseAddress else { return 0 }
      write(to: out)
      return Self.length
    }
  }

  /// The trace's id in 32 digits.
  package var traceIDText: String { Self.text(traceHigh) + Self.text(traceLow) }
  /// The span's id in 16 digits.
  package var spanIDText: String { Self.text(spanID) }

  /// Writes `length` bytes.
  package func write(to out: UnsafeMutablePointer<UInt8>) {
    let dash = UInt8(ascii: "-")
    Self.write(0, 2, out)
    out[2] = dash
    Self.write(traceHigh, 16, out + 3)
    Self.write(traceLow, 16, out + 19)
    out[35] = dash
    Self.write(spanID, 16, out + 36)
    out[52] = dash
    Self.write(UInt64(flags), 2, out + 53)
  }

  private static func text(_ number: UInt64) -> String {
    String(unsafeUninitializedCapacity: 16) { buffer in
      guard let out = buffer.baseAddress else { return 0 }
      write(number, 16, out)
      return 16
    }
  }

  private static func write(_ number: UInt64, _ count: Int, _ out: UnsafeMutablePointer<UInt8>) {
    for i in 0..<count {
      let digit = UInt8(truncatingIfNeeded: number >> UInt64(4 * (count - 1 - i)) & 15)
      out[i] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }
  }
}
