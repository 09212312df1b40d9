import AnomalyDetection
import DomainNames
import Foundation
import JSONText
import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime
import UsageAggregation

/// What a flush of the detector stores: findings, and with a checkpoint the states of partitions.
struct DetectorCargo: Sendable {
  var findings: [Finding] = []
  var states: [DetectorStore.State] = []
}

/// Findings into alerts with their deliveries, and states into `detector_state`.
///
/// `@unchecked Sendable`: what is mutable belongs to the flusher's thread.
final class DetectorWriter: FlushWriter, @unchecked Sendable {
  /// Alerts in an hour of licenses that nobody registered: whoever invents licenses must not fill the table.
  private static let unregisteredAnHour = 200

  private let topic: String
  private let allowance: Int
  private let maxAgeMilliseconds: Int64
  private let rules: PublicSuffixList
  private let metrics: DetectorMetrics
  private let logger: Logger
  private var unregistered = 0
  private var hourBegan = Monotonic.milliseconds
  private var alerts: [[UInt8]] = []

  init(
    topic: String, settings: DetectorSettings, rules: PublicSuffixList, metrics: DetectorMetrics,
    logger: Logger
  ) {
    self.topic = topic
    allowance = settings.domains.allowance
    maxAgeMilliseconds = Int64(settings.alertMaxAgeMilliseconds)
    self.rules = rules
    self.metrics = metrics
    self.logger = logger
  }

  func waitForRoom(_ stop: StopSignal) {}

  func append(
    _ cargo: DetectorCargo, _ batch: LogBatch?, epochs: [Int32: Int32],
    _ connection: PostgresConnection
  ) throws -> Int {
    let store = DetectorStore(connection, group: DetectorSettings.group, topic: topic)
    alerts = try describe(cargo.findings, epochs, store)
    let states = cargo.states.filter { epochs[$0.partition] != nil }
    if !states.isEmpty { try store.append(states, epochs: epochs) }
    return states.count
  }

  func statements(
    _ cargo: DetectorCargo, _ batch: LogBatch?, epochs: [Int32: Int32],
    _ connection: PostgresConnection
  ) -> [SQLStatement] {
    var statements: [SQLStatement] = []
    if cargo.states.contains(where: { epochs[$0.partition] != nil }) {
      statements.append(
        DetectorStore(connection, group: DetectorSettings.group, topic: topic)
          .settle(cargo.states, epochs: epochs))
    }
    if !alerts.isEmpty {
      let list =
        "[" + alerts.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ",") + "]"
      statements.append(DetectorStore.raise(list))
    }
    return statements
  }

  func stored(_ cargo: DetectorCargo, _ batch: LogBatch?, rows: Int?) {
    for finding in cargo.findings { metrics.found(finding) }
    for state in cargo.states { metrics.checkpointBytes.increment(by: state.bytes.count) }
  }

  // MARK: Findings

  private func describe(
    _ findings: [Finding], _ epochs: [Int32: Int32], _ store: DetectorStore
  ) throws -> [[UInt8]] {
    guard !findings.isEmpty else { return [] }
    let registered = try store.domains(of: Array(Set(findings.map(\.license))))
    let oldest = WallClock.milliseconds - maxAgeMilliseconds
    var described: [[UInt8]] = []
    for finding in findings {
      guard finding.recordedAt >= oldest else {
        metrics.suppressed("too_old")
        continue
      }
      let bound = registered[finding.license]
      if bound == nil, !mayTellOfUnregistered() {
        metrics.suppressed("unregistered")
        continue
      }
      if let json = finding.json(
        topic: topic, epoch: epochs[finding.partition], bound: bound, allowance: allowance,
        rules: rules)
      {
        described.append(json)
      }
    }
    return described
  }

  private func mayTellOfUnregistered() -> Bool {
    if Monotonic.milliseconds - hourBegan > 3_600_000 {
      hourBegan = Monotonic.milliseconds
      unregistered = 0
    }
    unregistered += 1
    if unregistered == Self.unregisteredAnHour + 1 {
      logger.warning(
        "alerts of licenses that nobody registered are no longer raised this hour")
    }
    return unregistered <= Self.unregisteredAnHour
  }
}
