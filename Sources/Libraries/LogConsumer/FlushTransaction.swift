import Foundation
import Metering
import PostgresStore
import UsageAggregation

/// The two accesses of a flush to the store: its transaction, and, if the answer to the commit was
/// lost, the question whether it happened.
struct FlushTransaction<Writer: FlushWriter> {
  let connection: PostgresConnection
  let settings: ConsumerSettings
  let owner: String
  let writer: Writer

  /// - Returns: the number of rows appended.
  func write(_ job: FlushJob<Writer.Cargo>, _ partitions: Set<Int32>) throws -> Int {
    let epochs = job.epochs.filter { partitions.contains($0.key) }
    var rows = 0
    var statements: [SQLStatement] = []
    try connection.execute("begin")
    do {
      rows = try writer.append(job.cargo, job.batch, epochs: epochs, connection)
      let letters = job.batch?.deadLetters.filter { epochs[$0.partition] != nil } ?? []
      if settings.rules.keepsDeadLetters, !letters.isEmpty { try copy(letters, epochs) }
      statements = try writer.statements(job.cargo, job.batch, epochs: epochs, connection)
    } catch {
      // The first error is thrown. A connection that cannot roll back is replaced.
      try? connection.execute("rollback")
      throw error
    }
    let store = FlushStore(
      connection, group: settings.group, topic: settings.topic, owner: owner)
    try store.commit(job.batch.map { commit($0, epochs) }, with: statements)
    return rows
  }

  private func copy(
    _ letters: [DeadLetter], _ epochs: [Int32: Int32]
  ) throws(PostgresError) {
    try connection.copy(into: FlushStore.deadLetterColumns, operation: "append dead letters") {
      (send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
      var rows = BinaryRows()
      rows.header()
      for letter in letters {
        rows.row(fields: 10)
        rows.field(settings.topic)
        rows.int4(letter.partition)
        rows.int8(letter.offset)
        rows.int4(epochs[letter.partition] ?? 0)
        rows.field(settings.group)
        rows.field(letter.reason.rawValue)
        rows.field(letter.reason.detail)
        rows.field(letter.payload)
        rows.field(letter.key)
        // Producers set this, up to 2^63−1. The year 9999 is the last that is written.
        rows.timestamp(milliseconds: min(max(letter.timestamp, 0), 253_402_300_799_000))
        if rows.bytes.count > 1 << 20 {
          try rows.send(send)
        }
      }
      rows.trailer()
      try rows.send(send)
    }
  }

  private func commit(_ batch: LogBatch, _ epochs: [Int32: Int32]) -> FlushStore.Commit {
    var c = FlushStore.Commit()
    for progress in batch.progress {
      guard let epoch = epochs[progress.partition] else { continue }
      c.offsets.append(
        FlushStore.Offset(
          epoch: epoch, partition: progress.partition, expected: progress.expectedOffset,
          next: progress.nextOffset, lastRecord: progress.lastRecordOffset,
          lastRecordHash: progress.lastRecordHash))
      for producer in progress.producers {
        c.producers.append(
          OffsetStore.StoredProducer(
            partition: progress.partition, producer: String(decoding: producer.name, as: UTF8.self),
            lastOffset: producer.lastOffset, isForgotten: producer.isForgotten,
            sequence: producer.sequence, deadSequence: producer.deadSequence,
            counted: producer.counted, duplicates: producer.duplicates,
            repeated: producer.repeated, deadLettered: producer.deadLettered))
      }
    }
    for report in batch.reports where epochs[report.partition] != nil {
      c.reports.append(
        FlushStore.Report(
          producer: report.producer, accepted: report.accepted, pending: report.pending,
          dropped: report.dropped, isFinal: report.isFinal,
          reportedAt: UTCTime.text(max(0, report.timestamp))))
    }
    guard settings.rules.keepsDeadLetters else { return c }
    for requeued in batch.requeued where epochs[requeued.partition] != nil {
      c.requeued.append(
        FlushStore.Requeued(
          DeadLetterStore.Name(requeued.key), isCounted: requeued.isCounted))
    }
    return c
  }

  /// Finds out whether a commit happened whose answer was lost. Only this process moves the offsets
  /// of partitions that it has claimed, so any one of them tells it for all.
  func fate(
    of job: FlushJob<Writer.Cargo>, _ partitions: Set<Int32>
  ) throws -> FlushMachine.Fate {
    let store = OffsetStore(connection, group: settings.group, topic: settings.topic)
    let progress = (job.batch?.progress ?? []).filter { partitions.contains($0.partition) }
    var lost = Set(progress.map(\.partition))
    for row in try store.stored(progress.map(\.partition))
    where row.claimedBy == owner && row.logEpoch == job.epochs[row.partition] {
      guard let mine = progress.first(where: { $0.partition == row.partition }) else { continue }
      if row.nextOffset == mine.nextOffset { return .stored }
      lost.remove(row.partition)
    }
    return .notStored(lost: lost)
  }
}
