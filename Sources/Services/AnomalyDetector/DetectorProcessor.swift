import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// Finds suspicious activity in one topic. It keeps a state for each partition.
protocol TopicFinder: SendableMetatype {
  associatedtype State: FinderState

  /// The state of a partition that has no checkpoint yet.
  func makeState() -> State
  /// Reads a state. It is nil unless this version stored it.
  func restore(_ bytes: [UInt8]) -> State?
  /// Takes what the batch has counted or gathered into the states. Whatever belongs to other
  /// partitions is left out, because their owners read it again.
  ///
  /// - Returns: the findings.
  mutating func find(in batch: LogBatch, _ states: [Int32: State]) -> [Finding]
}

/// The state of one partition. It is a class, because it is changed in place and some states cannot
/// be copied.
protocol FinderState: AnyObject {
  /// The bytes that `restore` reads.
  func stored() -> [UInt8]
  var bytes: Int { get }
  var licenseCount: Int { get }
}

/// Looks into the open batch at every flush interval, so that findings become alerts immediately.
/// Offsets and states are stored at checkpoints only.
final class DetectorProcessor<Finder: TopicFinder>: LogProcessor {
  typealias Writer = DetectorWriter

  private var finder: Finder
  private let topic: String
  private let metrics: DetectorMetrics
  private let logger: Logger
  private var states: [Int32: Finder.State] = [:]
  private var epochs: [Int32: Int32] = [:]
  private var findings: [Finding] = []
  private var checkpoint: CheckpointClock

  init(
    _ finder: Finder, topic: String, checkpointMilliseconds: Int, metrics: DetectorMetrics,
    logger: Logger
  ) {
    self.finder = finder
    self.topic = topic
    self.metrics = metrics
    self.logger = logger
    checkpoint = CheckpointClock(intervalMilliseconds: checkpointMilliseconds)
  }

  func own(_ owned: [OffsetStore.Stored], _ connection: PostgresConnection) throws {
    let store = DetectorStore(connection, group: DetectorSettings.group, topic: topic)
    for row in owned {
      states[row.partition] = try restored(row, store) ?? finder.makeState()
      epochs[row.partition] = row.logEpoch
    }
  }

  /// A stored state may cover fewer records than the offset, after a gap was accepted or the log
  /// was created again. What it has learnt still holds. A state that covers more records would
  /// count some of them twice.
  private func restored(_ row: OffsetStore.Stored, _ store: DetectorStore) throws -> Finder.State? {
    guard let stored = try store.state(of: row.partition) else { return nil }
    var problem = "another version stored the detector's state, so the detector starts over"
    if stored.epoch == row.logEpoch, stored.nextOffset > row.nextOffset {
      problem = "the offset was set back behind the detector's state, so the detector starts over"
    } else if let state = finder.restore(stored.bytes) {
      return state
    }
    logger.warning("\(problem)", metadata: ["partition": .stringConvertible(row.partition)])
    return nil
  }

  func disown(_ partition: Int32) { states[partition] = nil }

  func shares(_ owned: [Int32], isBehind: Bool) {
    metrics.states(
      of: topic, licenses: states.values.reduce(0) { $0 + $1.licenseCount }, bytes: bytes)
  }

  private var bytes: Int { states.values.reduce(0) { $0 + $1.bytes } }

  func review(_ batch: LogBatch, isBehind: Bool) -> FlushDecision<DetectorCargo> {
    look(batch)
    if checkpoint.isDue(bytes: bytes) { return .flush }
    guard !findings.isEmpty else { return .keep }
    return .tell(takeFindings())
  }

  func seal(_ batch: LogBatch) -> DetectorCargo {
    look(batch)
    var cargo = takeFindings()
    for progress in batch.progress {
      guard let state = states[progress.partition] else { continue }
      cargo.states.append(
        DetectorStore.State(
          partition: progress.partition, nextOffset: progress.nextOffset, bytes: state.stored()))
    }
    checkpoint.took()
    return cargo
  }

  private func look(_ batch: LogBatch) {
    for var finding in finder.find(in: batch, states) {
      finding.epoch = epochs[finding.partition] ?? 0
      findings.append(finding)
    }
    batch.resetCounts()
  }

  private func takeFindings() -> DetectorCargo {
    defer { findings.removeAll() }
    return DetectorCargo(findings: findings)
  }
}
