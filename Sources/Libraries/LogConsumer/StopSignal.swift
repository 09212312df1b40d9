import Foundation

/// A flag that ends waits: what asks threads to stop, and lets them sleep until then.
package final class StopSignal: @unchecked Sendable {
  // Every access to `raised` holds the condition's lock.
  private let condition = NSCondition()
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

  /// Sleeps for that long or until raised; true if raised.
  package func wait(milliseconds: Int) -> Bool {
    let end = Date(timeIntervalSinceNow: Double(milliseconds) / 1_000)
    condition.lock()
    defer { condition.unlock() }
    while !raised, condition.wait(until: end) {}
    return raised
  }
}
