import Foundation

/// A separate thread for work that blocks. librdkafka's polls and libpq's answers must never hold a
/// thread of the cooperative pool.
package final class WorkerThread: Sendable {
  private let life = ThreadLife()

  package init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread { [life] in
      body()
      life.end()
    }
    thread.name = name
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// Waits until the body has returned.
  package func join() { life.wait() }

  /// Waits until the body has returned; false if it did not within the time.
  package func join(seconds: Double) -> Bool {
    life.wait(until: Monotonic.milliseconds + Int(seconds * 1_000))
  }
}

/// Whether a thread has ended, and the wait for that.
private final class ThreadLife: @unchecked Sendable {
  private let condition = MonotonicCondition()
  private var isOver = false  // Used with the condition's lock held.

  func end() {
    condition.lock()
    isOver = true
    condition.broadcast()
    condition.unlock()
  }

  func wait() {
    condition.lock()
    while !isOver { condition.wait() }
    condition.unlock()
  }

  func wait(until end: Int) -> Bool {
    condition.lock()
    defer { condition.unlock() }
    while !isOver, condition.wait(until: end) {}
    return isOver
  }
}
