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
  /// In one statement, so that none is too large whatever is sent.
  private static let alertsAStatement = 1_000

  private let topic: String
  private let allowance: Int
  private let maxAgeMilliseconds: Int64
  private let rules: PublicSuffixList
  private let metrics: DetectorMetrics
  private let logger: Logger
  private let budget: SharedAlertBudget
  /// What the flush under way raises, what is left of the budget behind it, and what it leaves out.
  private var alerts: [[UInt8]] = []
  private var spent = AlertBudget()
  private var suppressed: [String: Int] = [:]
  /// Causes that the log has named already in this hour.
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

  /// An attempt of a flush spends nothing of the shared budget: what is stored does.
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
    // By their keys, so that two that raise the same ones cannot deadlock.
    alerts = raised.sorted { $0.key < $1.key }.map(\.json)
  }

  /// Hour by hour, and what says most comes first in its hour, so that it is the last that a budget leaves out.
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
        "more alerts were found than an hour has room for: some are not raised",
        metadata: ["budget": "\(cause.rawValue)"])
    }
    suppressed = [:]
  }
}
