import Foundation
import Synchronization

/// Work on a thread of its own, which may block.
package final class InBackground<T: Sendable>: Sendable {
  private let outcome = Outcome()

  private final class Outcome: Sendable {
    let result = Mutex<Result<T, any Error>?>(nil)
    let isOver = DispatchSemaphore(value: 0)
  }

  package init(_ body: @escaping @Sendable () throws -> T) {
    Thread.detachNewThread { [outcome] in
      let result = Result { try body() }
      outcome.result.withLock { $0 = result }
      outcome.isOver.signal()
    }
  }

  /// Waits for the end. It must be called once at most.
  ///
  /// - Throws: what the work threw.
  package func value() throws -> T {
    outcome.isOver.wait()
    return try outcome.result.withLock { try $0!.get() }
  }
}
