/// When a failed delivery is tried again.
package enum RetrySchedule {
  /// The delays after the first attempt, the second, and so on. Ten attempts take 75.6 hours.
  package static let delaysMilliseconds: [Int64] = [
    5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 36_000_000, 86_400_000,
    86_400_000,
  ]

  /// A receiver's `Retry-After` is followed up to this limit, which is the longest of our own
  /// delays. It never shortens the schedule below what it would have been without jitter.
  package static let maximumRetryAfterMilliseconds: Int64 = 86_400_000

  /// The wait after a failure, or nil if that was the last attempt.
  ///
  /// - Parameters:
  ///   - failures: the number of failures since the delivery was made or asked for again. This
  ///     failure counts, so it is at least 1.
  ///   - jitter: a number from −1 to 1 that moves the delay by up to 20 % either way. Without it, a
  ///     thousand deliveries that failed together would come back together.
  ///   - retryAfterMilliseconds: the wait that the receiver asked for.
  package static func delayMilliseconds(
    failures: Int, jitter: Double, retryAfterMilliseconds: Int64? = nil
  ) -> Int64? {
    guard failures >= 1, failures <= delaysMilliseconds.count else { return nil }
    let base = delaysMilliseconds[failures - 1]
    let bounded = jitter.isNaN ? 0 : min(max(jitter, -1), 1)
    let delay = base + Int64(Double(base) * 0.2 * bounded)
    guard let asked = retryAfterMilliseconds else { return delay }
    return max(delay, min(max(asked, 0), maximumRetryAfterMilliseconds))
  }
}
