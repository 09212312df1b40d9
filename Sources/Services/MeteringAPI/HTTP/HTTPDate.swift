import Metering
import ServiceRuntime
import Synchronization

/// The header `Date` (RFC 9110 section 5.6.7), made once a second.
final class HTTPDate: Sendable {
  private let last = Mutex<(second: Int64, text: String)>((-1, ""))

  private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
  private static let months = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]

  var now: String {
    let second = WallClock.milliseconds / 1_000
    return last.withLock { last in
      if last.second != second { last = (second, Self.text(second)) }
      return last.text
    }
  }

  /// - Parameter second: since 1970.
  static func text(_ second: Int64) -> String {
    let iso = UTCTime.text(second * 1_000)
    let month = Int(iso.dropFirst(5).prefix(2)) ?? 1
    let weekday = days[Int((second / 86_400) % 7)]
    return "\(weekday), \(iso.dropFirst(8).prefix(2)) \(months[month - 1]) \(iso.prefix(4)) "
      + "\(iso.dropFirst(11).prefix(8)) GMT"
  }
}
