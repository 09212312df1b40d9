import EventCodec
import Metering
import PostgresStore
import UsageAggregation

/// Writes the groups of a table as rows that wait to be merged, in COPY's binary format.
struct PendingRowEncoder {
  private var rows = BinaryRows()
  private var minutes: [UInt8] = []
  private var dimensions: [UInt8] = []

  /// The size of the pieces that are sent: large enough to be cheap, small enough to stay in the
  /// cache.
  private static let chunkBytes = 256 * 1024

  /// Writes the groups of the partitions in `epochs`, skipping all others.
  ///
  /// - Returns: the rows written.
  mutating func encode(
    _ table: borrowing UsageTable, epochs: [Int32: Int32],
    send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void
  ) throws(PostgresError) -> Int {
    var count = 0
    var failure: PostgresError?
    rows.removeAll()
    rows.header()
    var lastPartition: Int32 = -1
    var lastEpoch: Int32?
    table.forEachGroup { group, license, meter, address in
      if failure != nil { return }
      if group.partition != lastPartition {
        lastPartition = group.partition
        lastEpoch = epochs[group.partition]
      }
      guard let epoch = lastEpoch else { return }
      encodeCells(table, address)
      rows.row(fields: 11)
      rows.int4(epoch)
      rows.int4(group.partition)
      rows.field(UnsafeRawBufferPointer(license.buffer))
      rows.field(UnsafeRawBufferPointer(meter.buffer))
      rows.timestamp(milliseconds: Int64(group.hour) * 3_600_000)
      rows.int8(group.firstOffset)
      rows.int8(group.lastOffset)
      rows.int8(group.quantity)
      rows.int8(group.eventCount)
      minutes.withUnsafeBytes { rows.field($0) }
      dimensions.withUnsafeBytes { rows.field($0) }
      count += 1
      if rows.bytes.count > Self.chunkBytes {
        do throws(PostgresError) {
          try rows.send(send)
        } catch {
          failure = error
        }
      }
    }
    if let failure { throw failure }
    rows.trailer()
    try rows.send(send)
    return count
  }

  /// Writes `[minute,quantity,count],…` and `["domain","value",quantity,count],…`.
  private mutating func encodeCells(_ table: borrowing UsageTable, _ address: UInt32) {
    minutes.removeAll(keepingCapacity: true)
    dimensions.removeAll(keepingCapacity: true)
    table.forEachCell(of: address) { cell, value in
      switch cell.kind {
      case .minute:
        if !minutes.isEmpty { minutes.append(UInt8(ascii: ",")) }
        minutes.append(UInt8(ascii: "["))
        Self.append(Int64(cell.minute), to: &minutes)
        Self.appendSums(cell, to: &minutes)
      case .domain, .feature:
        if !dimensions.isEmpty { dimensions.append(UInt8(ascii: ",")) }
        dimensions.append(contentsOf: cell.kind == .domain ? Self.domain : Self.feature)
        Self.appendQuoted(value.buffer, to: &dimensions)
        Self.appendSums(cell, to: &dimensions)
      }
    }
  }

  private static let domain = Array("[\"domain\",".utf8)
  private static let feature = Array("[\"feature\",".utf8)

  private static func appendSums(_ cell: UsageCell, to output: inout [UInt8]) {
    output.append(UInt8(ascii: ","))
    append(cell.quantity, to: &output)
    output.append(UInt8(ascii: ","))
    append(Int64(cell.eventCount), to: &output)
    output.append(UInt8(ascii: "]"))
  }

  /// Appends the decimal digits of a number that is not negative.
  private static func append(_ value: Int64, to output: inout [UInt8]) {
    if value < 10 { return output.append(UInt8(ascii: "0") + UInt8(value)) }
    var digits: InlineArray<20, UInt8> = .init(repeating: 0)
    var rest = UInt64(value)
    var n = 20
    while rest > 0 {
      n -= 1
      digits[n] = UInt8(ascii: "0") + UInt8(rest % 10)
      rest /= 10
    }
    for i in n..<20 { output.append(digits[i]) }
  }

  /// Appends a JSON string. The bytes are UTF-8 without U+0000.
  static func appendQuoted(_ text: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "\""))
    JSONEscape.append(text, to: &output)
    output.append(UInt8(ascii: "\""))
  }
}
