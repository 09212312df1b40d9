/// Lets a thread sleep until there is something to do, or until it should stop. Wake-ups that come
/// while nobody sleeps are remembered as one.
package final class Wakeup: @unchecked Sendable {
  // Every access to the flags holds the condition's lock.
  private let condition = MonotonicCondition()
  private var isAwake = false
  private var isStopping = false

  package init() {}

  package func wake() {
    condition.lock()
    isAwake = true
    condition.signal()
    condition.unlock()
  }

  package func stop() {
    condition.lock()
    isStopping = true
    condition.broadcast()
    condition.unlock()
  }

  package var isStopped: Bool {
    condition.lock()
    defer { condition.unlock() }
    return isStopping
  }

  /// Returns when woken, when stopped, or after the time. The result is true unless it was stopped.
  @discardableResult
  package func sleep(milliseconds: Int) -> Bool {
    let end = Monotonic.milliseconds + milliseconds
    condition.lock()
    defer { condition.unlock() }
    while !isAwake, !isStopping, condition.wait(until: end) {}
    isAwake = false
    return !isStopping
  }

  /// Sleeps even if woken. The result is true unless it was stopped.
  package func pause(milliseconds: Int) -> Bool {
    let end = Monotonic.milliseconds + milliseconds
    condition.lock()
    defer { condition.unlock() }
    while !isStopping, condition.wait(until: end) {}
    return !isStopping
  }
}
