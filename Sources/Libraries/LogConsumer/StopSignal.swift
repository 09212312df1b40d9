import ServiceRuntime

/// A flag that asks threads to stop, and ends their sleep.
package final class StopSignal: @unchecked Sendable {
  // Every access to `raised` holds the condition's lock.
  private let condition = MonotonicCondition()
  private var raised = false

  package init() {}

  package func raise() {
    condition.lock()
    raised = true
    condition.broadcast()
    condition.unlock()
  }

  package var isRaised: Bool {
    condition.lock()
    defer { condition.unlock() }
    return raised
  }

  /// Sleeps for this long, or until the signal is raised.
  ///
  /// - Returns: whether it is raised.
  package func wait(milliseconds: Int) -> Bool {
    let end = Monotonic.milliseconds + milliseconds
    condition.lock()
    defer { condition.unlock() }
    while !raised, condition.wait(until: end) {}
    return raised
  }
}
