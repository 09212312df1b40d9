import Synchronization

/// A thread's signs of life, which its health is judged by.
///
/// The thread calls `beat` whenever it has finished a piece of work that may take long, and `rest`
/// before it waits for work. A thread that waits for another one beats meanwhile: the other one has
/// a heartbeat of its own. Between two beats no call may wait for longer than the limit, as long as
/// what it waits for keeps its own time limits.
package final class Heartbeat: Sendable {
  /// What becomes of the service while the thread stands still.
  package enum Importance: Sendable {
    /// The service cannot do its job, and only a new process helps.
    case vital
    /// The service does its job with less than it should have, and its end would cost more.
    case helpful
  }

  private static let resting = Int.max

  package let name: String
  package let importance: Importance
  package let limitMilliseconds: Int
  /// The time of the last sign, by `Monotonic`.
  private let last = Atomic<Int>(resting)

  init(_ name: String, _ importance: Importance, limitMilliseconds: Int) {
    self.name = name
    self.importance = importance
    self.limitMilliseconds = limitMilliseconds
  }

  /// The thread has done something, and is about to do more.
  package func beat() { last.store(Monotonic.milliseconds, ordering: .relaxed) }

  /// The thread waits for work, for as long as it takes, or has ended.
  package func rest() { last.store(Self.resting, ordering: .relaxed) }

  /// How long ago the last sign was; 0 while the thread rests.
  func silentMilliseconds(at now: Int) -> Int {
    let last = last.load(ordering: .relaxed)
    return last == Self.resting ? 0 : max(0, now - last)
  }
}
