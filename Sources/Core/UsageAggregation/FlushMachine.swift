/// The life of one flush. The machine has no effects. The driver reports what happened and carries
/// out the action that is returned.
///
///     writing ──committed──► done
///        │ └──refused──► writing what is left, or done
///        │ connection lost
///        ▼
///     uncertain ──fate: stored──► done
///        │ fate: not stored
///        ▼
///     writingAfterLoss ──committed──► done
///        │ refused
///        ▼
///     refusedWhileUncertain ──fate: stored──► done
///        └──fate: not stored──► writing
///
/// - `writing`: no earlier commit of this flush can still be running.
/// - `uncertain`: the connection was lost. The offsets in the store tell whether the commit
///   happened.
/// - `writingAfterLoss`: the offsets had not moved, but the server may still work on the lost
///   commit. A refusal may then come from this very flush, so it is not believed before the offsets
///   are read once more (`refusedWhileUncertain`).
///
/// After a failure that leaves no doubt, the flush is tried again in the same state.
package struct FlushMachine: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    case writing
    case uncertain
    case writingAfterLoss
    case refusedWhileUncertain
    case done
  }

  /// Why an attempt ended without an answer that settles it.
  package enum Failure: Sendable, Equatable {
    /// The connection was lost, or could not be made.
    case connectionLost
    /// A requeued dead letter in the batch was counted after it was looked up. The same batch would
    /// be refused for ever. The next session will take the record for a duplicate.
    case requeueRefused
    case refusedByDatabase
  }

  /// What the offsets in the store say about a commit whose answer was lost.
  package enum Fate: Sendable, Equatable {
    case stored
    /// It did not happen. The named partitions belong to other processes now.
    case notStored(lost: Set<Int32>)
  }

  package enum Action: Sendable, Equatable {
    /// Write the work of these partitions, in one transaction.
    case write(Set<Int32>)
    /// Read the offsets of these partitions.
    case askFate(Set<Int32>)
    /// Call `resumed` after a pause.
    case retry(afterMilliseconds: Int)
    /// The flush is over. It is stored, unless nothing was left to store.
    case finish(isStored: Bool)
    /// The flush is not known to be stored, and it is not tried again.
    case giveUp
  }

  package private(set) var state = State.writing
  /// The partitions that other processes own now. Their work is dropped.
  package private(set) var takenOver: Set<Int32> = []
  private var remaining: Set<Int32>
  private let movesOffsets: Bool
  private let startedAt: Int
  private var pause = Self.firstPause

  private static let firstPause = 20
  private static let longestPause = 1_000

  /// - Parameters:
  ///   - partitions: the partitions whose work is stored.
  ///   - movesOffsets: whether the flush moves offsets. If not, the offsets tell nothing, and the
  ///     flush may be written twice.
  ///   - startedAt: the time in milliseconds of a monotonic clock.
  package init(partitions: Set<Int32>, movesOffsets: Bool, startedAt: Int) {
    remaining = partitions
    self.movesOffsets = movesOffsets
    self.startedAt = startedAt
  }

  package func start() -> Action { next }

  package mutating func committed() -> Action {
    state = .done
    return .finish(isStored: true)
  }

  /// The compare-and-set failed and nothing was stored.
  ///
  /// - Parameter partitions: the partitions that other processes own. If it is empty, nobody knows
  ///   which they are. Then all partitions are given up, because the refusal would be repeated for
  ///   ever.
  package mutating func refused(_ partitions: Set<Int32>) -> Action {
    if state == .writingAfterLoss, movesOffsets {
      state = .refusedWhileUncertain
      return next
    }
    drop(partitions.isEmpty ? remaining : partitions)
    return next
  }

  package mutating func fate(_ fate: Fate) -> Action {
    guard case .notStored(let lost) = fate else {
      state = .done
      return .finish(isStored: true)
    }
    drop(lost)
    state = state == .uncertain ? .writingAfterLoss : .writing
    return next
  }

  /// - Parameter patience: how many milliseconds after its start the flush is still tried again.
  package mutating func failed(_ failure: Failure, at now: Int, patience: Int) -> Action {
    if failure == .connectionLost { state = .uncertain }
    if failure == .requeueRefused || now - startedAt > patience { return .giveUp }
    defer { pause = min(pause * 2, Self.longestPause) }
    return .retry(afterMilliseconds: pause)
  }

  package mutating func resumed() -> Action {
    if state == .uncertain, !movesOffsets { state = .writing }
    return next
  }

  private var next: Action {
    if remaining.isEmpty { return .finish(isStored: false) }
    switch state {
    case .uncertain, .refusedWhileUncertain: return .askFate(remaining)
    case .writing, .writingAfterLoss: return .write(remaining)
    case .done: return .finish(isStored: true)
    }
  }

  private mutating func drop(_ partitions: Set<Int32>) {
    takenOver.formUnion(partitions)
    remaining.subtract(partitions)
  }
}
