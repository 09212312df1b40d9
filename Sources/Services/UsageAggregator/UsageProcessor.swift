import LogConsumer
import PostgresStore
import UsageAggregation

/// Processes usage. A batch becomes the rows that its flush appends. Nothing else is kept.
final class UsageProcessor: LogProcessor {
  typealias Writer = UsageWriter

  private let backlog: MergeBacklog

  init(backlog: MergeBacklog) { self.backlog = backlog }

  func own(_ partitions: [OffsetStore.Stored], _ connection: PostgresConnection) {}
  func disown(_ partition: Int32) {}

  func shares(_ partitions: [Int32], isBehind: Bool) {
    backlog.ownedPartitions = partitions
    backlog.isBehind = isBehind
  }

  func review(_ batch: LogBatch, isBehind: Bool) -> FlushDecision<NoCargo> { .flush }
  func seal(_ batch: LogBatch) -> NoCargo { NoCargo() }
}

/// The batch itself is everything that a flush needs.
struct NoCargo: Sendable {}

/// Appends a batch's table to `usage_pending`, or to `usage_pending_recent` if the batch is small.
///
/// `@unchecked Sendable`: only the flusher's thread uses the encoder.
final class UsageWriter: FlushWriter, @unchecked Sendable {
  private let backlog: MergeBacklog
  private let limits: LimitHints
  private let maxPendingRows: Int
  private var encoder = PendingRowEncoder()

  init(backlog: MergeBacklog, limits: LimitHints, maxPendingRows: Int) {
    self.backlog = backlog
    self.limits = limits
    self.maxPendingRows = maxPendingRows
  }

  func waitForRoom(_ stop: StopSignal) { backlog.waitForRoom(maxPendingRows, stop) }

  func append(
    _ cargo: NoCargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) throws -> Int {
    guard let batch, !batch.table.isEmpty else { return 0 }
    var rows = 0
    let byLicense = backlog.isByLicense(batch.table.groupCount)
    try connection.copy(
      into: FlushStore.pendingColumns(byLicense: byLicense), operation: "append usage"
    ) {
      (send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
      rows = try encoder.encode(batch.table, epochs: epochs, send: send)
    }
    return rows
  }

  func statements(
    _ cargo: NoCargo, _ batch: LogBatch?, epochs: [Int32: Int32], _ connection: PostgresConnection
  ) -> [SQLStatement] {
    guard let batch, batch.table.tracedGroupCount > 0 else { return [] }
    let traces = UsageTraces(batch.table, epochs: epochs, limits: limits)
    return traces.statement.map { [$0] } ?? []
  }

  func stored(_ cargo: NoCargo, _ batch: LogBatch?, rows: Int?) {
    guard let batch else { return }
    backlog.add(rows ?? batch.table.groupCount)
    limits.spend(batch.table)
  }
}
