import Foundation
package import PostgresStore

/// One connection on a separate thread. libpq blocks, and nothing may block the cooperative pool.
///
/// `@unchecked Sendable`: the connection is used only on the queue.
package final class StripeDatabase: @unchecked Sendable {
  private let queue = DispatchQueue(label: "stripe-export")
  private let connection: PostgresConnection

  private init(_ connection: PostgresConnection) { self.connection = connection }

  /// - Parameter connect: makes the connection, on a thread that may block.
  package static func open(
    _ connect: @escaping @Sendable () throws -> PostgresConnection
  ) async throws -> StripeDatabase {
    try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(with: Result { StripeDatabase(try connect()) })
      }
    }
  }

  package func run<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { [self] in continuation.resume(with: Result { try body(connection) }) }
    }
  }

  func transaction<T: Sendable>(
    _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T {
    try await run { connection in try connection.transaction { try body(connection) } }
  }
}
