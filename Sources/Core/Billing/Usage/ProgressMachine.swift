/// Finds out until when everything that the log had received is counted.
///
/// The log's ends are observed again and again, each time with the time before they were asked for.
/// A record that the log had received before that time lies before the ends. So once the stored
/// offset of every partition has reached the observed end, everything of before that time is counted,
/// however long some partitions are idle, suspended or moving from one consumer to another.
///
/// What it answers may lag. It claims nothing where an offset and an end may be of different logs:
/// - An observation is of the epochs that were stored before the log was asked. In another epoch it
///   says nothing.
/// - An end that lies before an offset of earlier is another log's: nothing is observed then.
/// - A partition that stands still is not counted to its end, whatever its offset says.
package struct ProgressMachine: Sendable {
  /// How far a partition is counted.
  package struct Stored: Sendable, Equatable {
    package var next: Int64
    package var epoch: Int32

    package init(next: Int64, epoch: Int32) {
      self.next = next
      self.epoch = epoch
    }
  }

  private struct Observation: Sendable {
    let at: Int64
    let ends: [Int64]
    /// One for each partition; nil where a partition had none.
    let epochs: [Int32?]
  }

  /// While counting lags, observations become fewer the older they are.
  private static let most = 512

  /// The oldest first.
  private var observations: [Observation] = []

  package init() {}

  /// Takes an observation in.
  ///
  /// - Parameters:
  ///   - at: when the asking began, in milliseconds since 1970.
  ///   - before: what was stored at that time, by partition.
  ///   - ends: the end of every partition of the topic, the first behind all its records, uncommitted ones
  ///     too; nil where one did not answer.
  package mutating func observe(at: Int64, before: [Int32: Stored], ends: [Int64?]) {
    var known: [Int64] = []
    for (partition, end) in ends.enumerated() {
      guard let end else { return }
      if let stored = before[Int32(partition)], stored.next > end { return }
      known.append(end)
    }
    guard !known.isEmpty else { return }
    let epochs = known.indices.map { before[Int32($0)]?.epoch }
    observations.append(Observation(at: at, ends: known, epochs: epochs))
    if observations.count > Self.most {
      // Every second of the older half.
      let half = observations.count / 2
      observations = observations.enumerated().filter { $0.offset >= half || $0.offset % 2 == 0 }
        .map(\.element)
    }
  }

  /// Until when everything is counted; nil: nothing new is known.
  ///
  /// - Parameters:
  ///   - stored: what is stored now, by partition.
  ///   - halted: partitions that stand still.
  package mutating func advance(_ stored: [Int32: Stored], halted: Set<Int32>) -> Int64? {
    observations.removeAll { Self.isOfAnotherLog($0, stored) }
    guard halted.isEmpty,
      let place = observations.lastIndex(where: { Self.isReached($0, stored) })
    else { return nil }
    let at = observations[place].at
    observations.removeSubrange(...place)
    return at
  }

  private static func isOfAnotherLog(
    _ observation: Observation, _ stored: [Int32: Stored]
  ) -> Bool {
    observation.epochs.enumerated().contains { partition, epoch in
      guard let epoch else { return false }
      return stored[Int32(partition)]?.epoch != epoch
    }
  }

  private static func isReached(_ observation: Observation, _ stored: [Int32: Stored]) -> Bool {
    observation.ends.enumerated().allSatisfy { partition, end in
      // A partition that nobody has counted is complete only while nothing was ever in it.
      guard let row = stored[Int32(partition)] else { return end == 0 }
      return row.next >= end
    }
  }
}
