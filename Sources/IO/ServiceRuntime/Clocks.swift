import Foundation

/// Monotonic time, for intervals.
package enum Monotonic {
  package static var milliseconds: Int { Int(DispatchTime.now().uptimeNanoseconds / 1_000_000) }
}

/// The time of day in milliseconds since 1970, for timestamps.
package enum WallClock {
  package static var milliseconds: Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }
}
