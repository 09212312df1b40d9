import ServiceRuntime

/// When the next checkpoint is due: at the interval, but never so often that states are more than a share of what is written.
struct CheckpointClock {
  /// Bytes a second that checkpoints may write on average.
  private static let bytesPerMillisecond = 4_000

  private let intervalMilliseconds: Int
  private var last = Monotonic.milliseconds

  init(intervalMilliseconds: Int) { self.intervalMilliseconds = intervalMilliseconds }

  func isDue(bytes: Int) -> Bool {
    Monotonic.milliseconds - last >= max(intervalMilliseconds, bytes / Self.bytesPerMillisecond)
  }

  mutating func took() { last = Monotonic.milliseconds }
}
