internal import CLibPQ

/// One row of an answer, in PostgreSQL's text format. It must not leave the closure that it was
/// given to.
package struct SQLRow {
  let result: OpaquePointer
  let row: Int32

  /// Nil if the column is null.
  package func text(_ column: Int) -> String? {
    bytes(column).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Nil if the column is null or is not an integer of 64 bits.
  package func integer(_ column: Int) -> Int64? {
    guard let bytes = bytes(column) else { return nil }
    let digits = bytes.first == UInt8(ascii: "-") ? bytes.dropFirst() : bytes[...]
    guard !digits.isEmpty else { return nil }
    var negated: Int64 = 0
    for byte in digits {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
      let (tenfold, isBeyond) = negated.multipliedReportingOverflow(by: 10)
      let (value, isToo) = tenfold.subtractingReportingOverflow(Int64(byte & 15))
      if isBeyond || isToo { return nil }
      negated = value
    }
    if digits.count < bytes.count { return negated }
    return negated == .min ? nil : -negated
  }

  private func bytes(_ column: Int) -> UnsafeBufferPointer<UInt8>? {
    if PQgetisnull(result, row, Int32(column)) == 1 { return nil }
    let start = UnsafeRawPointer(PQgetvalue(result, row, Int32(column)))
    return UnsafeBufferPointer(
      start: start?.assumingMemoryBound(to: UInt8.self),
      count: Int(PQgetlength(result, row, Int32(column))))
  }
}
