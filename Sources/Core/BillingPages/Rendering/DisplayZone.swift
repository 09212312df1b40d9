import Metering

/// The time zone in which a page shows times.
package struct DisplayZone: Sendable {
  /// The IANA name, such as `Europe/Berlin`.
  package let name: String
  /// The offset from UTC in seconds and its abbreviation, at a time in milliseconds since 1970.
  let offset: @Sendable (Int64) -> (seconds: Int64, abbreviation: String)

  package init(
    name: String, offset: @escaping @Sendable (Int64) -> (seconds: Int64, abbreviation: String)
  ) {
    self.name = name
    self.offset = offset
  }

  package static let utc = DisplayZone(name: "UTC") { _ in (0, "UTC") }

  /// The offset from UTC in seconds, at a time in milliseconds since 1970.
  package func seconds(_ time: Int64) -> Int64 { offset(time).seconds }

  package var isUTC: Bool { name == "UTC" }

  /// `2026-11-27 10:41:07 CET`.
  func exact(_ time: Int64) -> String {
    let (seconds, abbreviation) = offset(time)
    let text = UTCTime.text(time + seconds * 1000)
    return "\(text.prefix(10)) \(text.dropFirst(11).prefix(8)) \(abbreviation)"
  }

  /// `2026-11-27 10:41`, below a heading that names the zone.
  func minute(_ time: Int64) -> String {
    let text = local(time)
    return "\(text.prefix(10)) \(text.dropFirst(11).prefix(5))"
  }

  /// `2026-11-27`.
  func day(_ time: Int64) -> String { String(local(time).prefix(10)) }

  /// `27 Nov`.
  func shortDay(_ time: Int64) -> String {
    let text = local(time)
    let day = text.dropFirst(8).prefix(2)
    return "\(day.hasPrefix("0") ? day.dropFirst() : day) \(Self.month(text))"
  }

  /// `10:41`.
  func clock(_ time: Int64) -> String { String(local(time).dropFirst(11).prefix(5)) }

  /// `Nov 2026`.
  func monthAndYear(_ time: Int64) -> String {
    let text = local(time)
    return "\(Self.month(text)) \(text.prefix(4))"
  }

  private func local(_ time: Int64) -> String { UTCTime.text(time + offset(time).seconds * 1000) }

  private static func month(_ text: String) -> String {
    let names = [
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
    return Int(text.dropFirst(5).prefix(2)).map { names[max(0, min(11, $0 - 1))] } ?? ""
  }
}
