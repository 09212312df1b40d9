/// Appends values as little-endian bytes, for checkpoints.
struct StateWriter {
  private(set) var bytes: [UInt8] = []

  mutating func put(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  /// Appends a text after its length.
  mutating func put(_ text: String) {
    put(UInt32(text.utf8.count))
    bytes.append(contentsOf: text.utf8)
  }

  mutating func put(_ raw: [UInt8]) {
    put(UInt32(raw.count))
    bytes.append(contentsOf: raw)
  }

  mutating func put<T>(_ list: [T], _ body: (inout StateWriter, T) -> Void) {
    put(UInt32(list.count))
    for element in list { body(&self, element) }
  }

  mutating func put<T>(optional value: T?, _ body: (inout StateWriter, T) -> Void) {
    put(UInt8(value == nil ? 0 : 1))
    if let value { body(&self, value) }
  }
}

/// Reads what `StateWriter` wrote. The bytes may be anything: reading past the end, or an
/// impossible length, throws.
struct StateReader {
  struct Malformed: Error {}

  private let bytes: ArraySlice<UInt8>
  private var position: Int

  init(_ bytes: [UInt8]) {
    self.bytes = bytes[...]
    position = 0
  }

  var isAtEnd: Bool { position == bytes.endIndex }

  mutating func integer<T: FixedWidthInteger>(_: T.Type = T.self) throws(Malformed) -> T {
    let size = MemoryLayout<T>.size
    guard bytes.endIndex - position >= size else { throw Malformed() }
    var value: T = 0
    for i in (0..<size).reversed() {
      value = (size == 1 ? 0 : value << 8) | T(truncatingIfNeeded: bytes[position + i])
    }
    position += size
    return value
  }

  mutating func raw() throws(Malformed) -> [UInt8] {
    let count = Int(try integer(UInt32.self))
    guard count <= bytes.endIndex - position else { throw Malformed() }
    defer { position += count }
    return Array(bytes[position..<position + count])
  }

  mutating func text() throws(Malformed) -> String {
    guard let text = String(validating: try raw(), as: UTF8.self) else { throw Malformed() }
    return text
  }

  mutating func list<T>(
    atMost most: Int, _ body: (inout StateReader) throws(Malformed) -> T
  ) throws(Malformed) -> [T] {
    let count = Int(try integer(UInt32.self))
    guard count <= most else { throw Malformed() }
    var list: [T] = []
    for _ in 0..<count { list.append(try body(&self)) }
    return list
  }

  mutating func optional<T>(
    _ body: (inout StateReader) throws(Malformed) -> T
  ) throws(Malformed) -> T? {
    switch try integer(UInt8.self) {
    case 0: return nil
    case 1: return try body(&self)
    default: throw Malformed()
    }
  }
}
