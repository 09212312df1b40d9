import ServiceRuntime

/// Says when the next checkpoint is due. It is due at the interval, but less often if the states
/// would otherwise be too large a share of what is written.
struct CheckpointClock {
  /// How fast checkpoints may write on average.
  private static let bytesPerMillisecond = 4_000

  private let intervalMilliseconds: Int
  private var last = Monotonic.milliseconds

  init(intervalMilliseconds: Int) { self.intervalMilliseconds = intervalMilliseconds }

  func isDue(bytes: Int) -> Bool {
    Monotonic.milliseconds - last >= max(intervalMilliseconds, bytes / Self.bytesPerMillisecond)
  }

  mutating func took() { last = Monotonic.milliseconds }
}
