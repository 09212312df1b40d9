/// Builds rows of PostgreSQL's binary COPY format ("Binary Format" in the documentation of COPY):
/// big-endian, with each field after its length.
///
/// It reuses its buffer: the caller sends `bytes` and then calls `removeAll`.
package struct BinaryRows {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  /// Appends signature, flags and header extension. Call it once, before the first row.
  package mutating func header() {
    bytes.append(contentsOf: [0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00])
    put(Int32(0))
    put(Int32(0))
  }

  /// Call it once, after the last row.
  package mutating func trailer() { put(Int16(-1)) }

  package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

  /// Passes on what has been gathered, and forgets it.
  package mutating func send(
    _ send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void
  ) throws(PostgresError) {
    var failure: PostgresError?
    bytes.withUnsafeBytes {
      do throws(PostgresError) { try send($0) } catch { failure = error }
    }
    removeAll()
    if let failure { throw failure }
  }

  @inline(__always)
  package mutating func row(fields: Int16) { put(fields) }

  @inline(__always)
  package mutating func null() { put(Int32(-1)) }

  @inline(__always)
  package mutating func int4(_ value: Int32) {
    put(Int32(4))
    put(value)
  }

  @inline(__always)
  package mutating func int8(_ value: Int64) {
    put(Int32(8))
    put(value)
  }

  /// Appends microseconds since 2000-01-01, from milliseconds since 1970.
  @inline(__always)
  package mutating func timestamp(milliseconds: Int64) {
    int8((milliseconds - 946_684_800_000) * 1_000)
  }

  /// Appends a text in UTF-8, or a bytea.
  @inline(__always)
  package mutating func field(_ value: UnsafeRawBufferPointer) {
    put(Int32(value.count))
    bytes.append(contentsOf: value)
  }

  package mutating func field(_ value: String) {
    var value = value
    value.withUTF8 { field(UnsafeRawBufferPointer($0)) }
  }

  package mutating func field(_ value: [UInt8]?) {
    guard let value else { return null() }
    value.withUnsafeBytes { field($0) }
  }

  @inline(__always)
  private mutating func put(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }
}
