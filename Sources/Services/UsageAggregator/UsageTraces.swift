import EventCodec
import Metering
import PostgresStore
import UsageAggregation

/// The traces of groups in a flush that may bring a license to a threshold. The merge puts them
/// into the evidence of the alert. All other traces end here, because nobody would read them.
struct UsageTraces {
  /// The most traces in one flush. Traces explain alerts and count nothing, so the rest is left
  /// out.
  private static let most = 4_096

  private var epochs: [Int64] = []
  private var partitions: [Int64] = []
  private var licenses: [Identifier] = []
  private var meters: [Identifier] = []
  private var offsets: [Int64] = []
  private var traceparents: [String] = []

  /// - Parameter epochs: the partitions that the flush writes. Groups of other partitions are left
  ///   out.
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

  /// Nil if there is nothing to write.
  var statement: SQLStatement? {
    guard !traceparents.isEmpty else { return nil }
    return FlushStore.traces(
      epochs: epochs, partitions: partitions, licenses: licenses, meters: meters,
      offsets: offsets, traceparents: traceparents)
  }
}
