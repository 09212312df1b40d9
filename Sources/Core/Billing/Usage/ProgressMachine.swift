/// Finds the time up to which everything that the log had received is counted.
///
/// The log's ends are observed again and again, each time with the time before they were asked for.
/// A record that the log had received before that time lies before the ends. So once the stored
/// offset of every partition has reached the observed end, everything before that time is counted.
/// It does not matter how long some partitions are idle, suspended or moving from one consumer to
/// another.
///
/// The answer may lag. The machine claims nothing if an offset and an end may belong to different
/// logs:
/// - An observation belongs to the epochs that were stored before the log was asked. It says
///   nothing about another epoch.
/// - An end that lies before an earlier offset belongs to another log, so it makes no observation.
/// - A partition that stands still is not counted to its end, even if its offset says so.
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
    /// One epoch for each partition. Nil if a partition had none.
    let epochs: [Int32?]
  }

  /// While counting lags, older observations are thinned out.
  private static let most = 512

  /// The observations, oldest first.
  private var observations: [Observation] = []

  package init() {}

  /// Adds an observation.
  ///
  /// - Parameters:
  ///   - at: when the log was asked, in milliseconds since 1970.
  ///   - before: the stored state at that time, by partition.
  ///   - ends: the end of every partition of the topic, which is the first offset after all its
  ///     records, including uncommitted ones. It is nil for a partition that did not answer.
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
      // This keeps every second observation of the older half.
      let half = observations.count / 2
      observations = observations.enumerated().filter { $0.offset >= half || $0.offset % 2 == 0 }
        .map(\.element)
    }
  }

  /// The time up to which everything is counted. Nil if nothing new is known.
  ///
  /// - Parameters:
  ///   - stored: the state that is stored now, by partition.
  ///   - halted: the partitions that stand still.
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
      // A partition that was never counted is complete only if it has always been empty.
      guard let row = stored[Int32(partition)] else { return end == 0 }
      return row.next >= end
    }
  }
}
