import LogAudit
import Metering
import Recount

/// The result of reconcile.
struct ReconcileReport {
  enum Status: String {
    case equal, different
    /// Equal as far as the log reaches, which is not the whole requested range.
    case notProvable = "not_provable"
    /// Not a single row of usage could be compared with the log, which does not cover the whole
    /// requested range.
    case nothingProved = "nothing_proved"
  }

  enum Kind: String, CaseIterable {
    case hour, minute, day, dimension, provenance
    case deadLetter = "dead_letter"
    case producer, view, quarantine
  }

  struct Tallied {
    var equal = 0
    var different = 0
    var notProvable = 0
    /// Rows among those not provable that contain at least what the log still has of them.
    var atLeast = 0
    var compared: Int { equal + different }
  }

  /// A row that differs from the log.
  struct Mismatch {
    var kind: Kind
    var license: ExactText?
    var meter: ExactText?
    var minute: Int64?
    var logEpoch: Int32?
    var partition: Int32?
    var offset: Int64?
    var dimension: String?
    var value: String?
    var producer: ExactText?
    /// The value from the log.
    var expected: Side
    /// The value in PostgreSQL.
    var actual: Side
    var note: String?
  }

  enum Side {
    case tally(Tally)
    case text(String)
  }

  /// Rows that the log cannot prove, grouped by the reason.
  struct Unproven {
    var reason: String
    var kind: Kind
    var partition: Int32?
    var logEpoch: Int32?
    /// In milliseconds since 1970.
    var logBegins: Int64?
    var rows = 0
    var tally = Tally()
  }

  private struct UnprovenKey: Hashable {
    var reason: String
    var kind: Kind
    var partition: Int32?
    var logEpoch: Int32?
  }

  let maxDifferences: Int
  private(set) var rows: [Kind: Tallied] = [:]
  private(set) var differences: [Mismatch] = []
  private(set) var differenceCount = 0
  private var unprovenRows: [UnprovenKey: Unproven] = [:]
  /// Whether a partition's log begins after the beginning of the requested time.
  private var hasTimeBeforeLog = false

  init(maxDifferences: Int) {
    self.maxDifferences = maxDifferences
  }

  var status: Status {
    if differenceCount > 0 { return .different }
    if unprovenRows.isEmpty { return .equal }
    let usage = [Kind.hour, .minute, .day].map { rows[$0] ?? Tallied() }
    let isNothingProved =
      usage.allSatisfy { $0.equal == 0 && $0.atLeast == 0 }
      && (hasTimeBeforeLog || usage.contains { $0.notProvable > 0 })
    return isNothingProved ? .nothingProved : .notProvable
  }

  var unproven: [Unproven] {
    unprovenRows.values.sorted {
      ($0.logEpoch ?? 0, $0.partition ?? -1, $0.kind.rawValue, $0.reason)
        < ($1.logEpoch ?? 0, $1.partition ?? -1, $1.kind.rawValue, $1.reason)
    }
  }

  var rowsCompared: Int { rows.values.reduce(0) { $0 + $1.compared } }

  mutating func equal(_ kind: Kind) { rows[kind, default: Tallied()].equal += 1 }

  mutating func different(_ mismatch: Mismatch) {
    rows[mismatch.kind, default: Tallied()].different += 1
    differenceCount += 1
    if differences.count < maxDifferences { differences.append(mismatch) }
  }

  /// Notes that the log does not reach back to the beginning of the requested time. Rows may be
  /// missing there without a trace.
  mutating func beginsLate(partition: Int32, logEpoch: Int32, logBegins: Int64?) {
    hasTimeBeforeLog = true
    guard !unprovenRows.keys.contains(where: { $0.partition == partition }) else { return }
    notProvable(
      .hour, "what came before the log's beginning cannot be read any more", partition: partition,
      logEpoch: logEpoch, logBegins: logBegins, rows: 0)
  }

  /// - Parameter holdsWhatIsLeft: the rows contain at least what the log still has of them.
  mutating func notProvable(
    _ kind: Kind, _ reason: String, partition: Int32? = nil, logEpoch: Int32? = nil,
    logBegins: Int64? = nil, rows count: Int = 1, tally: Tally = Tally(),
    holdsWhatIsLeft: Bool = false
  ) {
    rows[kind, default: Tallied()].notProvable += count
    if holdsWhatIsLeft { rows[kind, default: Tallied()].atLeast += count }
    let key = UnprovenKey(reason: reason, kind: kind, partition: partition, logEpoch: logEpoch)
    var entry =
      unprovenRows[key]
      ?? Unproven(
        reason: reason, kind: kind, partition: partition, logEpoch: logEpoch, logBegins: logBegins)
    entry.rows += count
    entry.tally.add(tally)
    unprovenRows[key] = entry
  }
}
