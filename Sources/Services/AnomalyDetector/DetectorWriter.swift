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

/// What a flush of the detector stores: findings and, at a checkpoint, the states of partitions.
struct DetectorCargo: Sendable {
  var findings: [Finding] = []
  var states: [DetectorStore.State] = []
}

/// Writes findings as alerts with their deliveries, and states into `detector_state`.
///
/// `@unchecked Sendable`: only the flusher's thread uses the mutable state.
final class DetectorWriter: FlushWriter, @unchecked Sendable {
  /// The most alerts in one statement, so that no statement becomes too large.
  private static let alertsAStatement = 1_000

  private let topic: String
  private let allowance: Int
  private let maxAgeMilliseconds: Int64
  private let rules: PublicSuffixList
  private let metrics: DetectorMetrics
  private let logger: Logger
  private let budget: SharedAlertBudget
  /// What the current flush raises, what it leaves of the budget, and what it leaves out.
  private var alerts: [[UInt8]] = []
  private var spent = AlertBudget()
  private var suppressed: [String: Int] = [:]
  /// Causes that were logged in this hour already.
  private var named: Set<AlertBudget.Cause> = []
  private var namedHour: Int64 = 0

  init(
    topic: String, settings: DetectorSettings, rules: PublicSuffixList, budget: SharedAlertBudget,
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
    budget.settle(spent)
    tellSuppressed()
    for finding in cargo.findings { metrics.found(finding) }
    for state in cargo.states { metrics.checkpointBytes.increment(by: state.bytes.count) }
  }

  // MARK: Findings

  /// Chooses and encodes the alerts. It spends from a copy of the shared budget, because only what
  /// is stored costs anything.
  private func describe(_ findings: [Finding], _ store: DetectorStore) throws {
    alerts = []
    suppressed = [:]
    spent = budget.value
    guard !findings.isEmpty else { return }
    let registered = try store.registered(of: findings.map(\.license))
    let oldest = WallClock.milliseconds - maxAgeMilliseconds
    var keys: Set<[UInt8]> = []
    var raised: [(key: String, json: [UInt8])] = []
    for finding in findings.sorted(by: Self.precedes) where keys.insert(finding.keyBytes).inserted {
      guard finding.recordedAt >= oldest else {
        suppressed["too_old", default: 0] += 1
        continue
      }
      let license = registered[Array(finding.license.utf8)]
      guard
        let described = finding.described(
          by: license?.domains ?? [], allowance: allowance, rules: rules)
      else { continue }
      let decision = spent.spend(
        key: finding.dedupeKey, license: finding.license, customer: license?.customerID,
        recordedAt: finding.recordedAt)
      switch decision {
      case .raise: raised.append((finding.dedupeKey, described.json(topic: topic, until: nil)))
      case .raiseWithNotice(let until):
        raised.append((finding.dedupeKey, described.json(topic: topic, until: until)))
      case .suppress(let cause): suppressed[cause.rawValue, default: 0] += 1
      }
    }
    // Sorted by key, because two flushes that raise the same alerts in different orders could
    // deadlock.
    alerts = raised.sorted { $0.key < $1.key }.map(\.json)
  }

  /// Orders findings by hour. The most important findings of an hour come first, so that a budget
  /// leaves them out last.
  private static func precedes(_ a: Finding, _ b: Finding) -> Bool {
    (AlertBudget.hour(a.recordedAt), a.rank, a.dedupeKey)
      < (AlertBudget.hour(b.recordedAt), b.rank, b.dedupeKey)
  }

  private func tellSuppressed() {
    for (cause, count) in suppressed { metrics.suppressed(cause, count) }
    let hour = WallClock.milliseconds / 3_600_000
    if hour != namedHour { (named, namedHour) = ([], hour) }
    for cause in AlertBudget.Cause.allCases
    where suppressed[cause.rawValue] != nil && named.insert(cause).inserted {
      logger.warning(
        "the budget of alerts for this hour is spent, so some alerts are not raised",
        metadata: ["budget": "\(cause.rawValue)"])
    }
    suppressed = [:]
  }
}
