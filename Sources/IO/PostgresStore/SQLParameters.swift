import Metering

/// Parameters in the form that libpq needs, alive for the length of a call.
struct SQLParameters {
  private var bytes: [[UInt8]?] = []
  private var formats: [Int32] = []

  /// - Throws: 22021, like the server, if a text contains U+0000. libpq would take it for the end
  ///   of the text, and the statement would silently use another value.
  init(_ values: [SQLValue], _ operation: String) throws(PostgresError) {
    for value in values {
      switch value {
      case .text(let text): try refuseNUL(text, operation)
      case .texts(let texts): for text in texts { try refuseNUL(text, operation) }
      default: break
      }
      switch value {
      case .null: add(nil, 0)
      case .text(let s): add(Array(s.utf8) + [0], 0)
      case .integer(let i): add(Array(String(i).utf8) + [0], 0)
      case .boolean(let b): add(Array((b ? "t" : "f").utf8) + [0], 0)
      case .bytes(let b): add(b, 1)
      case .texts(let list): add(Array(Self.array(list.map(Self.quoted)).utf8) + [0], 0)
      case .integers(let list): add(Array(Self.array(list.map { String($0) }).utf8) + [0], 0)
      case .optionalIntegers(let list):
        add(Array(Self.array(list.map { $0.map { String($0) } ?? "NULL" }).utf8) + [0], 0)
      case .booleans(let list): add(Array(Self.array(list.map { $0 ? "t" : "f" }).utf8) + [0], 0)
      }
    }
  }

  private func refuseNUL(_ text: String, _ operation: String) throws(PostgresError) {
    if text.utf8.contains(0) {
      throw PostgresError(
        sqlState: SQLState.badCharacter, operation: operation, message: "a parameter holds U+0000")
    }
  }

  private mutating func add(_ value: [UInt8]?, _ format: Int32) {
    bytes.append(value)
    formats.append(format)
  }

  private static func array(_ elements: [String]) -> String {
    "{" + elements.joined(separator: ",") + "}"
  }

  private static func quoted(_ text: String) -> String {
    var result = "\""
    for character in text.unicodeScalars {
      if character == "\"" || character == "\\" { result.unicodeScalars.append("\\") }
      result.unicodeScalars.append(character)
    }
    return result + "\""
  }

  /// As PostgreSQL's constants, for statements that take no parameters.
  var literals: [String] {
    zip(bytes, formats).map { value, format in
      guard let value else { return "null" }
      if format == 1 { return "'\\x\(Hexadecimal.text(value))'" }
      let text = String(decoding: value.dropLast(), as: UTF8.self)
      let escaped = text.replacing("\\", with: "\\\\").replacing("'", with: "''")
      return " E'\(escaped)'"
    }
  }

  func withPointers<T>(
    _ body: (
      Int32, UnsafePointer<UnsafePointer<CChar>?>, UnsafePointer<Int32>, UnsafePointer<Int32>
    ) -> T
  ) -> T {
    let total = bytes.reduce(0) { $0 + ($1?.count ?? 0) }
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(total, 1))
    defer { memory.deallocate() }
    var pointers: [UnsafePointer<CChar>?] = []
    var lengths: [Int32] = []
    var used = 0
    for value in bytes {
      guard let value else {
        pointers.append(nil)
        lengths.append(0)
        continue
      }
      value.withUnsafeBufferPointer {
        if let base = $0.baseAddress { (memory + used).initialize(from: base, count: $0.count) }
      }
      pointers.append(
        UnsafePointer(UnsafeMutableRawPointer(memory + used).assumingMemoryBound(to: CChar.self)))
      lengths.append(Int32(value.count))
      used += value.count
    }
    return body(Int32(bytes.count), pointers, lengths, formats)
  }
}
