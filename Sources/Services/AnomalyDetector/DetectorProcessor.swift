import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// What the detector makes of one topic: a state of each partition, and findings.
protocol TopicJudge: SendableMetatype {
  associatedtype State: PartitionState

  /// Of a partition of which nothing is known.
  func makeState() -> State
  /// Nil unless this version stored it.
  func restore(_ bytes: [UInt8]) -> State?
  /// Takes what the batch has counted or gathered into the states, and answers what was found. What belongs to partitions that are not
  /// among the states is left out: whoever owns them reads it again.
  mutating func judge(_ batch: LogBatch, _ states: [Int32: State]) -> [Finding]
}

/// A class: it is changed in place, and some cannot be copied.
protocol PartitionState: AnyObject {
  /// As `restore` reads it.
  func stored() -> [UInt8]
  var bytes: Int { get }
  var licenseCount: Int { get }
}

/// Looks into the open batch at every flush interval: what is found is told at once. Offsets move, and states are stored, at checkpoints.
final class DetectorProcessor<Judge: TopicJudge>: LogProcessor {
  typealias Writer = DetectorWriter

  private var judge: Judge
  private let topic: String
  private let metrics: DetectorMetrics
  private let logger: Logger
  private var states: [Int32: Judge.State] = [:]
  private var epochs: [Int32: Int32] = [:]
  private var findings: [Finding] = []
  private var checkpoint: CheckpointClock

  init(
    _ judge: Judge, topic: String, checkpointMilliseconds: Int, metrics: DetectorMetrics,
    logger: Logger
  ) {
    self.judge = judge
    self.topic = topic
    self.metrics = metrics
    self.logger = logger
    checkpoint = CheckpointClock(intervalMilliseconds: checkpointMilliseconds)
  }

  func own(_ owned: [OffsetStore.Stored], _ connection: PostgresConnection) throws {
    let store = DetectorStore(connection, group: DetectorSettings.group, topic: topic)
    for row in owned {
      states[row.partition] = try restored(row, store) ?? judge.makeState()
      epochs[row.partition] = row.logEpoch
    }
  }

  /// A state of fewer records than the offset stands for a gap that was accepted, or for a log that was made anew: what was learnt before
  /// it holds. One of more records would count some twice.
  private func restored(_ row: OffsetStore.Stored, _ store: DetectorStore) throws -> Judge.State? {
    guard let stored = try store.state(of: row.partition) else { return nil }
    var problem = "the detector's state is of another version, and begins anew"
    if stored.epoch == row.logEpoch, stored.nextOffset > row.nextOffset {
      problem = "the offset was set back behind the detector's state, which begins anew"
    } else if let state = judge.restore(stored.bytes) {
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
    for var finding in judge.judge(batch, states) {
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
