/// The id of a billing period of a license and meter, such as `lic_abc123:api_calls:2026-11-01`. It
/// ends with the period's first day. A license's id may contain colons.
package struct PeriodID: Sendable, Hashable {
  package var license: Identifier
  package var meter: String
  /// The first day of the period, such as `2026-11-01`.
  package var start: String

  package init(license: Identifier, meter: String, start: String) {
    self.license = license
    self.meter = meter
    self.start = start
  }

  package var text: String { "\(license.string):\(meter):\(start)" }

  /// Returns nil if the text is not such an id.
  package init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard let last = bytes.lastIndex(of: UInt8(ascii: ":")),
      let middle = bytes[..<last].lastIndex(of: UInt8(ascii: ":")), middle > 0
    else { return nil }
    let meter = String(decoding: bytes[(middle + 1)..<last], as: UTF8.self)
    let start = String(decoding: bytes[(last + 1)...], as: UTF8.self)
    guard MeterName.isValid(meter), UTCTime.isDay(start) else { return nil }
    self.init(
      license: Identifier(String(decoding: bytes[..<middle], as: UTF8.self)), meter: meter,
      start: start)
  }
}
