import AnomalyDetection
import DomainNames
import Foundation
import JSONText
import LogConsumer
import Logging
import PostgresStore
import ServiceRuntime
import Synchronization
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
  static let unregisteredAnHour = 200
  /// In one statement, so that none is too large whatever is sent.
  private static let alertsAStatement = 1_000

  private let topic: String
  private let allowance: Int
  private let maxAgeMilliseconds: Int64
  private let rules: PublicSuffixList
  private let metrics: DetectorMetrics
  private let logger: Logger
  private let budget: HourlyBudget
  /// Of the flush under way, and how many of them are of licenses that nobody registered.
  private var alerts: [[UInt8]] = []
  private var unregistered = 0

  init(
    topic: String, settings: DetectorSettings, rules: PublicSuffixList, budget: HourlyBudget,
    metrics: DetectorMetrics, logger: Logger
  ) {
    self.topic = topic
    self.budget = budget
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
    try describe(cargo.findings, store)
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
    for start in stride(from: 0, to: alerts.count, by: Self.alertsAStatement) {
      let some = alerts[start..<min(start + Self.alertsAStatement, alerts.count)]
      let list = some.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ",")
      statements.append(DetectorStore.raise("[\(list)]"))
    }
    return statements
  }

  func stored(_ cargo: DetectorCargo, _ batch: LogBatch?, rows: Int?) {
    if budget.spend(unregistered) {
      logger.warning(
        "alerts of licenses that nobody registered are no longer raised this hour")
    }
    unregistered = 0
    for finding in cargo.findings { metrics.found(finding) }
    for state in cargo.states { metrics.checkpointBytes.increment(by: state.bytes.count) }
  }

  // MARK: Findings

  /// Made anew at each attempt of a flush, which spends nothing: what is stored does.
  private func describe(_ findings: [Finding], _ store: DetectorStore) throws {
    alerts = []
    unregistered = 0
    guard !findings.isEmpty else { return }
    let registered = try store.domains(of: Array(Set(findings.map(\.license))))
    let oldest = WallClock.milliseconds - maxAgeMilliseconds
    let left = budget.left
    var keys: Set<String> = []
    // By their keys, so that two that raise the same ones cannot deadlock.
    for finding in findings.sorted(by: { $0.dedupeKey < $1.dedupeKey }) {
      guard !keys.contains(finding.dedupeKey) else { continue }
      guard finding.recordedAt >= oldest else {
        metrics.suppressed("too_old")
        continue
      }
      let bound = registered[finding.license]
      guard bound != nil || unregistered < left else {
        metrics.suppressed("unregistered")
        continue
      }
      guard
        let json = finding.json(topic: topic, bound: bound, allowance: allowance, rules: rules)
      else { continue }
      keys.insert(finding.dedupeKey)
      if bound == nil { unregistered += 1 }
      alerts.append(json)
    }
  }
}

/// How much may still be done within the hour; shared by the writers of all sessions.
final class HourlyBudget: Sendable {
  private let most: Int
  private let state = Mutex((spent: 0, began: Monotonic.milliseconds))

  init(_ most: Int) { self.most = most }

  var left: Int {
    state.withLock { state in
      if Monotonic.milliseconds - state.began > 3_600_000 { state = (0, Monotonic.milliseconds) }
      return max(most - state.spent, 0)
    }
  }

  /// - Returns: whether it is used up by this.
  func spend(_ count: Int) -> Bool {
    state.withLock { state in
      let before = state.spent
      state.spent += count
      return before < most && state.spent >= most
    }
  }
}
