import Foundation
import Metering
import PostgresStore
import UsageAggregation

/// What a flush asks of the store: its one transaction, and afterwards, where the answer to the
/// commit was lost, whether it happened.
struct FlushTransaction<Writer: FlushWriter> {
  let connection: PostgresConnection
  let settings: ConsumerSettings
  let owner: String
  let writer: Writer

  /// - Returns: the rows appended.
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
        // Producers set it, up to 2^63−1; the year 9999 is the last that is written.
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
      c.epochs.append(Int64(epoch))
      c.partitions.append(Int64(progress.partition))
      c.expected.append(progress.expectedOffset)
      c.next.append(progress.nextOffset)
      c.lastOffsets.append(progress.lastRecordOffset)
      c.lastHashes.append(progress.lastRecordHash)
      for producer in progress.producers {
        c.producerPartitions.append(Int64(progress.partition))
        c.producers.append(String(decoding: producer.name, as: UTF8.self))
        c.producerOffsets.append(producer.lastOffset)
        c.forgotten.append(producer.isForgotten)
        c.sequences.append(producer.sequence)
        c.deadSequences.append(producer.deadSequence)
        c.counted.append(producer.counted)
        c.duplicates.append(producer.duplicates)
        c.repeated.append(producer.repeated)
        c.deadLettered.append(producer.deadLettered)
      }
    }
    for report in batch.reports where epochs[report.partition] != nil {
      c.reportProducers.append(report.producer)
      c.accepted.append(report.accepted)
      c.pending.append(report.pending)
      c.dropped.append(report.dropped)
      c.finals.append(report.isFinal)
      c.reportedAt.append(UTCTime.text(max(0, report.timestamp)))
    }
    guard settings.rules.keepsDeadLetters else { return c }
    for requeued in batch.requeued where epochs[requeued.partition] != nil {
      c.requeuedEpochs.append(Int64(requeued.key.epoch))
      c.requeuedTopics.append(requeued.key.topic)
      c.requeuedPartitions.append(Int64(requeued.key.partition))
      c.requeuedOffsets.append(requeued.key.offset)
    }
    return c
  }

  /// Whether a commit happened whose answer was lost. Only this process moves the offsets of
  /// partitions that it has claimed, so any one of them tells it for all.
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
