import Synchronization

/// A thread's signs of life, from which its health is judged.
///
/// The thread calls `beat` after each piece of work that may take long, and `rest` before it waits
/// for work. A thread that waits for another one keeps beating, because the other one has its own
/// heartbeat. Between two beats, no call may wait for longer than the limit, as long as what it
/// waits for keeps its own time limits.
package final class Heartbeat: Sendable {
  /// The consequence for the service while the thread stands still.
  package enum Importance: Sendable {
    /// The service cannot do its job, and only a new process helps.
    case vital
    /// The service does its job with less than it should have. Ending it would cost more.
    case helpful
  }

  private static let resting = Int.max

  package let name: String
  package let importance: Importance
  package let limitMilliseconds: Int
  /// The time of the last sign of life, by `Monotonic`.
  private let last = Atomic<Int>(resting)

  init(_ name: String, _ importance: Importance, limitMilliseconds: Int) {
    self.name = name
    self.importance = importance
    self.limitMilliseconds = limitMilliseconds
  }

  /// The thread has finished something and goes on working.
  package func beat() { last.store(Monotonic.milliseconds, ordering: .relaxed) }

  /// The thread waits for work, for any length of time, or has ended.
  package func rest() { last.store(Self.resting, ordering: .relaxed) }

  /// The time since the last sign of life; 0 while the thread rests.
  func silentMilliseconds(at now: Int) -> Int {
    let last = last.load(ordering: .relaxed)
    return last == Self.resting ? 0 : max(0, now - last)
  }
}
