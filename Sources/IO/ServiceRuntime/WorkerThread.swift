import Foundation

/// A separate thread for work that blocks. librdkafka's polls and libpq's answers must never hold a
/// thread of the cooperative pool.
package final class WorkerThread: Sendable {
  private let finished = DispatchSemaphore(value: 0)

  package init(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread { [finished] in
      body()
      finished.signal()
    }
    thread.name = name
    thread.stackSize = 4 << 20
    thread.start()
  }

  /// Waits until the body has returned.
  package func join() {
    finished.wait()
    finished.signal()
  }

  /// Waits until the body has returned; false if it did not within the time.
  package func join(seconds: Double) -> Bool {
    guard finished.wait(timeout: .now() + seconds) == .success else { return false }
    finished.signal()
    return true
  }
}
