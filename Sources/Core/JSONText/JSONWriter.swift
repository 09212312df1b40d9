import Metering

/// Writes one JSON document into bytes, without blanks and with the members in the order of the
/// calls.
///
/// The writer sets the commas. The caller must alternate names and values.
package struct JSONWriter {
  package private(set) var bytes: [UInt8] = []
  private var needsComma = false

  package init(reserving capacity: Int = 512) {
    bytes.reserveCapacity(capacity)
  }

  package mutating func beginObject() { open(UInt8(ascii: "{")) }
  package mutating func endObject() { close(UInt8(ascii: "}")) }
  package mutating func beginArray() { open(UInt8(ascii: "[")) }
  package mutating func endArray() { close(UInt8(ascii: "]")) }

  package mutating func name(_ name: String) {
    text(name)
    bytes.append(UInt8(ascii: ":"))
    needsComma = false
  }

  /// Encodes a name with its quotes and colon, for `name(encoded:)`.
  package static func encoded(name: String) -> [UInt8] {
    var writer = JSONWriter(reserving: name.utf8.count + 3)
    writer.name(name)
    return writer.bytes
  }

  package mutating func name(encoded name: [UInt8]) {
    separate()
    bytes.append(contentsOf: name)
    needsComma = false
  }

  package mutating func text(_ value: String) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    var value = value
    value.withUTF8 { JSONEscape.append($0, to: &bytes) }
    bytes.append(UInt8(ascii: "\""))
  }

  package mutating func integer(_ value: Int64) {
    separate()
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    let start = bytes.count
    var rest = value.magnitude
    repeat {
      bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
      rest /= 10
    } while rest > 0
    bytes[start...].reverse()
  }

  package mutating func boolean(_ value: Bool) { raw(value ? "true" : "false") }
  package mutating func null() { raw("null") }

  /// Writes a text that is already JSON.
  package mutating func raw(_ json: String) {
    separate()
    bytes.append(contentsOf: json.utf8)
  }

  package mutating func raw(_ json: [UInt8]) {
    separate()
    bytes.append(contentsOf: json)
  }

  /// Writes a text of ASCII characters that need no escape.
  package mutating func quoted(_ ascii: [UInt8]) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    bytes.append(contentsOf: ascii)
    bytes.append(UInt8(ascii: "\""))
  }

  /// Writes a time as RFC 3339 in UTC. Milliseconds are written only if they are not 0.
  ///
  /// - Parameter milliseconds: the time in milliseconds since 1970.
  package mutating func time(_ milliseconds: Int64) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: UTCTime.length) { text in
      guard let start = text.baseAddress else { return }
      UTCTime.write(milliseconds, to: start)
      if milliseconds % 1_000 == 0 {
        bytes.append(contentsOf: text[..<19])
        bytes.append(UInt8(ascii: "Z"))
      } else {
        bytes.append(contentsOf: text)
      }
    }
    bytes.append(UInt8(ascii: "\""))
  }

  package mutating func member(_ name: String, _ value: String) {
    self.name(name)
    text(value)
  }

  package mutating func member(_ name: String, _ value: Int64) {
    self.name(name)
    integer(value)
  }

  package mutating func member(_ name: String, _ value: Bool) {
    self.name(name)
    boolean(value)
  }

  package mutating func member(_ name: String, _ values: [String]) {
    self.name(name)
    beginArray()
    for value in values { text(value) }
    endArray()
  }

  private mutating func open(_ bracket: UInt8) {
    separate()
    bytes.append(bracket)
    needsComma = false
  }

  private mutating func close(_ bracket: UInt8) {
    bytes.append(bracket)
    needsComma = true
  }

  private mutating func separate() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = true
  }
}
