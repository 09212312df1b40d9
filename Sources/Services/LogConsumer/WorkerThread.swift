import Foundation
import Synchronization

/// A thread of its own for work that blocks: librdkafka's polls and libpq's answers never hold a thread of the cooperative pool.
final class WorkerThread: Sendable {
  private let finished = DispatchSemaphore(value: 0)

  init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread { [finished] in
      body()
      finished.signal()
    }
    thread.name = name
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// Waits until the body has returned.
  func join() {
    finished.wait()
    finished.signal()
  }

  /// Waits until the body has returned; false if it did not within the time.
  func join(seconds: Double) -> Bool {
    guard finished.wait(timeout: .now() + seconds) == .success else { return false }
    finished.signal()
    return true
  }
}

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

/// Monotonic time, for intervals.
enum Monotonic {
  static var milliseconds: Int { Int(DispatchTime.now().uptimeNanoseconds / 1_000_000) }
}
