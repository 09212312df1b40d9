/// How long a thread that looks for work waits before it looks again: longer once it has found none
/// for a while, so that an idle process costs next to nothing. What ends the quiet waits for the
/// longer of the two pauses at most.
package struct IdlePause: Sendable {
  /// The pauses, in the unit in which the caller waits.
  private let busy: UInt32
  private let quiet: UInt32
  private let patience: Int
  private var emptyLooks = 0

  /// - Parameter patience: looks in a row without work after which it is quiet.
  package init(patience: Int, busy: UInt32, quiet: UInt32) {
    self.patience = patience
    self.busy = busy
    self.quiet = quiet
  }

  /// The pause that follows a look.
  package mutating func next(foundWork: Bool) -> UInt32 {
    emptyLooks = foundWork ? 0 : min(emptyLooks + 1, patience + 1)
    return emptyLooks > patience ? quiet : busy
  }
}
