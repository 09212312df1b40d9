import EventCodec

/// Usage events as a validation service would send them, from a seed: licenses by a skewed law, times over some minutes.
struct EventMaker {
  private var state: UInt64
  private let licenses: Int
  private let minutes: Int
  private let start: Int64
  private let total: Int
  private var made = 0
  private static let features = [
    "analytics", "webhooks", "custom-domains", "export", "sso", "audit",
  ]

  /// - Parameters:
  ///   - minutes: event times advance through so many minutes up to `now`.
  ///   - now: milliseconds since 1970.
  init(events: Int, licenses: Int, minutes: Int, now: Int64, seed: UInt64) {
    total = events
    self.licenses = licenses
    self.minutes = minutes
    // Whole minutes, so that the number of license-minutes does not depend on when the run starts.
    start = (now / 60_000 - Int64(minutes)) * 60_000
    state = seed
  }

  /// SplitMix64 (Steele, Lea, Flood 2014).
  private mutating func random() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  /// Writes the next event's key and value.
  mutating func next(key: inout [UInt8], value: inout [UInt8]) {
    let unit = Double(random() >> 11) / Double(1 << 53)
    // A fifth of the licenses makes nine tenths of the traffic. No single one makes much: a partition of the embedded broker keeps 5 MB.
    let busy = max(1, licenses / 5)
    let license =
      random() % 10 != 0
      ? Int(unit * Double(busy)) : busy + Int(unit * Double(max(0, licenses - busy)))
    let time = start + Int64(made) * Int64(minutes) * 60_000 / Int64(total)
    key.removeAll(keepingCapacity: true)
    key.append(contentsOf: "lic_".utf8)
    Self.digits(min(license, licenses - 1), 8, &key)
    value.removeAll(keepingCapacity: true)
    value.append(contentsOf: #"{"specversion":"1.0","id":"01JD"#.utf8)
    let id = random()
    for i in 0..<16 {
      value.append(Self.base32[Int(id >> UInt64(i * 4) & 15)])
    }
    Self.digits(made, 9, &value)
    value.append(
      contentsOf: #"","source":"/validation/eu-1","type":"license.usage.recorded","subject":""#.utf8
    )
    value.append(contentsOf: key)
    value.append(contentsOf: #"","time":""#.utf8)
    Self.time(time, &value)
    value.append(
      contentsOf: #"","datacontenttype":"application/json","producer":"bench-7f3a","sequence":"#
        .utf8)
    Self.digits(made + 1, 0, &value)
    value.append(
      contentsOf: #","data":{"meter":"api_calls","quantity":1,"domain":"app.customer"#.utf8)
    Self.digits(license, 0, &value)
    value.append(contentsOf: #".example","feature":""#.utf8)
    value.append(contentsOf: Self.features[(license + (random() & 7 == 0 ? 1 : 0)) % 6].utf8)
    value.append(contentsOf: #""}}"#.utf8)
    made += 1
  }

  private static let base32 = Array("0123456789ABCDEF".utf8)

  private static func digits(_ value: Int, _ width: Int, _ output: inout [UInt8]) {
    let text = String(value).utf8
    for _ in 0..<max(0, width - text.count) { output.append(0x30) }
    output.append(contentsOf: text)
  }

  private static func time(_ milliseconds: Int64, _ output: inout [UInt8]) {
    let days = Int(milliseconds / 86_400_000)
    let rest = Int(milliseconds % 86_400_000)
    // Inverse of Timestamp.daysFromCivil, by search: the year is within one of the guess.
    var year = 1970 + days / 366
    while Timestamp.daysFromCivil(year + 1, 1, 1) <= days { year += 1 }
    var month = 1
    while month < 12, Timestamp.daysFromCivil(year, month + 1, 1) <= days { month += 1 }
    let day = days - Timestamp.daysFromCivil(year, month, 1) + 1
    digits(year, 4, &output)
    output.append(0x2D)
    digits(month, 2, &output)
    output.append(0x2D)
    digits(day, 2, &output)
    output.append(0x54)
    digits(rest / 3_600_000, 2, &output)
    output.append(0x3A)
    digits(rest / 60_000 % 60, 2, &output)
    output.append(0x3A)
    digits(rest / 1_000 % 60, 2, &output)
    output.append(0x2E)
    digits(rest % 1_000, 3, &output)
    output.append(0x5A)
  }
}
