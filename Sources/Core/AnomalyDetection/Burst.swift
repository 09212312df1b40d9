/// Traffic far above what a license's own past suggests. It is reported once, when it becomes
/// clear.
package struct Burst: Equatable, Sendable {
  /// The minute from which the evidence grew, in minutes since 1970. It names the burst.
  package var startMinute: Int32
  /// The minute whose calls made it clear.
  package var minute: Int32
  /// Calls of that minute so far.
  package var ratePerMinute: Double
  package var expectedPerMinute: Double
  /// 1 − 2^(−evidence / 14), at least 0.5.
  package var score: Double
  /// From the start to the end of the minute.
  package var windowSeconds: Int32
}

/// The newest minute of a license. Most events touch nothing else.
struct OpenMinute: BitwiseCopyable, Sendable {
  /// Larger sums are cut to this.
  static let mostCalls: Int64 = (1 << 48) - 1

  var calls: Int64
  var minute: Int32
  /// The number of calls at which the minute becomes a burst.
  var alarm: Float
}
