import Metering

/// Makes usage events from a seed, like those of a validation service. The licenses follow a skewed
/// distribution, and the times are spread over some minutes.
struct EventMaker {
  private var random: SplitMix64
  private let licenses: Int
  private let minutes: Int
  private let start: Int64
  private let total: Int
  private var made = 0
  private static let features = [
    "analytics", "webhooks", "custom-domains", "export", "sso", "audit",
  ]

  /// - Parameters:
  ///   - minutes: the number of minutes up to `now` through which event times advance.
  ///   - now: milliseconds since 1970.
  init(events: Int, licenses: Int, minutes: Int, now: Int64, seed: UInt64) {
    total = events
    self.licenses = licenses
    self.minutes = minutes
    // The times begin at a whole minute, so that the number of license-minutes does not depend on
    // when the run starts.
    start = (now / 60_000 - Int64(minutes)) * 60_000
    random = SplitMix64(seed: seed)
  }

  /// Writes the next event's key and value.
  mutating func next(key: inout [UInt8], value: inout [UInt8]) {
    let unit = Double(random.next() >> 11) / Double(1 << 53)
    // A fifth of the licenses makes nine tenths of the traffic. No license makes much, because a
    // partition of the embedded broker keeps only 5 MB.
    let busy = max(1, licenses / 5)
    let license =
      random.next() % 10 != 0
      ? Int(unit * Double(busy)) : busy + Int(unit * Double(max(0, licenses - busy)))
    let time = start + Int64(made) * Int64(minutes) * 60_000 / Int64(total)
    key.removeAll(keepingCapacity: true)
    key.append(contentsOf: "lic_".utf8)
    Self.digits(min(license, licenses - 1), 8, &key)
    value.removeAll(keepingCapacity: true)
    value.append(contentsOf: #"{"specversion":"1.0","id":"01JD"#.utf8)
    let id = random.next()
    for i in 0..<16 {
      value.append(Self.hexDigits[Int(id >> UInt64(i * 4) & 15)])
    }
    Self.digits(made, 9, &value)
    value.append(
      contentsOf: #"","source":"/validation/eu-1","type":"license.usage.recorded","subject":""#.utf8
    )
    value.append(contentsOf: key)
    value.append(contentsOf: #"","time":""#.utf8)
    value.append(contentsOf: UTCTime.text(time).utf8)
    value.append(
      contentsOf: #"","datacontenttype":"application/json","producer":"bench-7f3a","sequence":"#
        .utf8)
    Self.digits(made + 1, 0, &value)
    value.append(
      contentsOf: #","data":{"meter":"api_calls","quantity":1,"domain":"app.customer"#.utf8)
    Self.digits(license, 0, &value)
    value.append(contentsOf: #".example","feature":""#.utf8)
    value.append(contentsOf: Self.features[(license + (random.next() & 7 == 0 ? 1 : 0)) % 6].utf8)
    value.append(contentsOf: #""}}"#.utf8)
    made += 1
  }

  private static let hexDigits = Array("0123456789ABCDEF".utf8)

  private static func digits(_ value: Int, _ width: Int, _ output: inout [UInt8]) {
    let text = String(value).utf8
    for _ in 0..<max(0, width - text.count) { output.append(0x30) }
    output.append(contentsOf: text)
  }
}
