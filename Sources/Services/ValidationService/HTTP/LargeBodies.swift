import Dispatch
import Foundation
import HTTPListening
import Synchronization

/// Threads for requests with large bodies. Reading one takes milliseconds, in which an event loop
/// would answer hundreds of other requests.
///
/// They use at most half of the processors. `BodyMemory` bounds what waits.
final class LargeBodies: Sendable {
  /// Bodies larger than this are read here.
  static let bytes = 16_384

  private let queues: [DispatchQueue]
  private let next = Atomic<Int>(0)

  init() {
    let count = max(1, ProcessInfo.processInfo.activeProcessorCount / 2)
    queues = (0..<count).map { DispatchQueue(label: "license-metering.large-bodies.\($0)") }
  }

  func run<T: Sendable>(_ work: @escaping @Sendable () -> T) async -> T {
    let turn = next.wrappingAdd(1, ordering: .relaxed).oldValue & .max
    return await withCheckedContinuation { done in
      queues[turn % queues.count].async { done.resume(returning: work()) }
    }
  }
}
