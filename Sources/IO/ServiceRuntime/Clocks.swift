import Foundation

/// Monotonic time, for intervals.
package enum Monotonic {
  package static var milliseconds: Int { Int(DispatchTime.now().uptimeNanoseconds / 1_000_000) }
}

/// The time of day, for timestamps: milliseconds since 1970.
package enum WallClock {
  package static var milliseconds: Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }
}
