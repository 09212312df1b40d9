/// Traffic far above what a license's own past leads one to expect, told once, when it becomes
/// clear.
package struct Burst: Equatable, Sendable {
  /// The minute from which on the evidence grew, minutes since 1970: names the burst.
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

/// The newest minute of a license: the only thing that most events touch.
struct OpenMinute: BitwiseCopyable, Sendable {
  /// Larger sums are taken for this.
  static let mostCalls: Int64 = (1 << 48) - 1

  var calls: Int64
  var minute: Int32
  /// Calls from which on the minute is a burst.
  var alarm: Float
}
