import Foundation
import PostgresStore

/// Hands jobs to the thread that holds a snapshot, one at a time.
final class DatabaseLease: @unchecked Sendable {
  // Everything below `condition` is used with its lock held.
  private struct Job {
    let run: (PostgresConnection) -> Void
    let fail: (any Error) -> Void
  }

  struct Ended: Error {}

  private let condition = NSCondition()
  private var job: Job?
  private var isEnded = false

  /// Runs jobs on the connection's thread until the lease ends.
  func serve(_ connection: PostgresConnection) {
    while true {
      condition.lock()
      while job == nil, !isEnded { condition.wait() }
      let taken = job
      job = nil
      condition.unlock()
      guard let taken else { return }
      taken.run(connection)
    }
  }

  /// Jobs that wait fail with `Ended`.
  func end() {
    condition.lock()
    isEnded = true
    let left = job
    job = nil
    condition.broadcast()
    condition.unlock()
    left?.fail(Ended())
  }

  func run<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let made = Job(
        run: { connection in continuation.resume(with: Result { try body(connection) }) },
        fail: { continuation.resume(throwing: $0) })
      condition.lock()
      let isTaken = !isEnded && job == nil
      if isTaken {
        job = made
        condition.broadcast()
      }
      condition.unlock()
      if !isTaken { continuation.resume(throwing: Ended()) }
    }
  }
}
