/// How long a thread that looks for work waits before it looks again. The pause is longer once it
/// has found none for a while, so that an idle process costs almost nothing. New work then waits
/// for at most the longer pause.
package struct IdlePause: Sendable {
  /// The pauses, in the unit in which the caller waits.
  private let busy: UInt32
  private let quiet: UInt32
  private let patience: Int
  private var emptyLooks = 0

  /// - Parameter patience: the number of looks in a row without work after which the pause becomes
  ///   longer.
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
