import Foundation

/// A time zone with its IANA name, as a calendar of days and months.
///
/// Instants are seconds since 1970, days are days since 1970-01-01 of the local date. A local day
/// begins at the first instant that has its date. If clocks skip midnight, that is the instant of
/// the change. If midnight occurs twice, it is the first of the two.
package struct UsageZone: Sendable, Equatable {
  package let name: String
  private let zone: TimeZone

  package static let utc = UsageZone("UTC")!

  /// Returns nil unless it is the name of a zone, which is `UTC` or `Area/Place`. Abbreviations
  /// such as `CET` and offsets such as `GMT+3` are refused, because they mean different things to
  /// different people.
  package init?(_ name: String) {
    guard (1...64).contains(name.utf8.count),
      name == "UTC" || name.utf8.contains(UInt8(ascii: "/")),
      name.utf8.allSatisfy({ Self.isNameByte($0) }), let zone = TimeZone(identifier: name),
      name == "UTC" || Self.known.contains(name) || zone.identifier == name
    else { return nil }
    self.name = name
    self.zone = zone
  }

  private static let known = Set(TimeZone.knownTimeZoneIdentifiers)

  private static func isNameByte(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || "/_+-".utf8.contains(byte)
  }

  package var isUTC: Bool { name == "UTC" || name == "Etc/UTC" }

  /// Seconds that local clocks are ahead of UTC.
  package func offset(at instant: Int64) -> Int64 {
    if isUTC { return 0 }
    return Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(instant))))
  }

  /// The local date at an instant.
  package func day(at instant: Int64) -> Int64 {
    floorDivide(instant + offset(at: instant), 86_400)
  }

  /// The first instant of a local day.
  package func start(ofDay day: Int64) -> Int64 {
    let midnight = day * 86_400
    if isUTC { return midnight }
    let offsets = [offset(at: midnight - 86_400 * 3 / 2), offset(at: midnight + 86_400 * 3 / 2)]
    let found = offsets.map { midnight - $0 }.filter { $0 + offset(at: $0) == midnight }.min()
    if let found { return found }
    // Midnight is skipped, so find the first instant that has a later date.
    var before = midnight - 86_400 * 3 / 2
    var after = midnight + 86_400 * 3 / 2
    while after - before > 1 {
      let middle = (before + after) / 2
      if self.day(at: middle) < day { before = middle } else { after = middle }
    }
    return after
  }

  /// The first instant of a local month.
  package func start(of month: CivilMonth) -> Int64 { start(ofDay: month.firstDay) }

  package func month(at instant: Int64) -> CivilMonth { CivilMonth(ofDay: day(at: instant)) }
}

/// A month of the Gregorian calendar.
package struct CivilMonth: Sendable, Equatable {
  /// Months since January of the year 0.
  package var index: Int64

  package init(index: Int64) { self.index = index }

  /// - Parameter day: a day since 1970.
  package init(ofDay day: Int64) {
    // This is Howard Hinnant's `civil_from_days`, which counts years from March.
    let shifted = day + 719_468
    let era = floorDivide(shifted, 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let month = (5 * dayOfYear + 2) / 153
    index = (yearOfEra + era * 400) * 12 + month + 2
  }

  package var next: CivilMonth { CivilMonth(index: index + 1) }

  /// The month's first day, in days since 1970.
  package var firstDay: Int64 {
    let year = floorDivide(index, 12)
    let month = index - year * 12
    let shiftedYear = month < 2 ? year - 1 : year
    let era = floorDivide(shiftedYear, 400)
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month < 2 ? month + 10 : month - 2) + 2) / 5
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }
}

/// The quotient, rounded towards negative infinity.
package func floorDivide(_ a: Int64, _ b: Int64) -> Int64 { a / b - (a % b < 0 ? 1 : 0) }
