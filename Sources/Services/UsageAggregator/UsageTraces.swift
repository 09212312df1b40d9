import EventCodec
import Metering
import PostgresStore
import UsageAggregation

/// The traces of a flush whose groups may bring a license to a threshold of a limit, for the
/// evidence of the alert that the merge then raises. All other traces end here, because nothing
/// would read them.
struct UsageTraces {
  /// A flush writes at most so many. Traces explain alerts and count nothing, so what is beyond is
  /// left out.
  private static let most = 4_096

  private var epochs: [Int64] = []
  private var partitions: [Int64] = []
  private var licenses: [Identifier] = []
  private var meters: [Identifier] = []
  private var offsets: [Int64] = []
  private var traceparents: [String] = []

  /// - Parameter epochs: of the partitions that the flush writes. Groups of others are left out.
  init(_ table: borrowing UsageTable, epochs written: [Int32: Int32], limits: LimitHints) {
    table.forEachGroup { group, license, meter, address in
      guard traceparents.count < Self.most, let trace = table.trace(of: address),
        let epoch = written[group.partition],
        limits.mayReach(license: license.buffer, meter: meter.buffer, group.quantity)
      else { return }
      epochs.append(Int64(epoch))
      partitions.append(Int64(group.partition))
      licenses.append(Identifier(license.string))
      meters.append(Identifier(meter.string))
      offsets.append(group.lastOffset)
      traceparents.append(trace.traceparent)
    }
  }

  /// Nil where there is nothing to write.
  var statement: SQLStatement? {
    guard !traceparents.isEmpty else { return nil }
    return FlushStore.traces(
      epochs: epochs, partitions: partitions, licenses: licenses, meters: meters,
      offsets: offsets, traceparents: traceparents)
  }
}
