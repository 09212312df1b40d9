package import JSONText

/// One value of a row that is answered as JSON or as CSV.
package enum Cell: Sendable, Equatable {
  case null
  case text(String)
  case integer(Int64)
  /// A billed quantity. It is a string if the client asks for `numbers=string`.
  case quantity(Int64)
  case number(Double)
  case boolean(Bool)
  /// Milliseconds since 1970, written as RFC 3339 with `Z`.
  case time(Int64)
  /// A list or an object that is already JSON.
  case json([UInt8])
  /// The same with quantities in it. `quoted` has them as strings.
  case quantities([UInt8], quoted: [UInt8])

  package static func optional(_ text: String?) -> Cell { text.map { .text($0) } ?? .null }
  package static func optional(_ value: Int64?) -> Cell { value.map { .integer($0) } ?? .null }
  package static func optionalTime(_ value: Int64?) -> Cell { value.map { .time($0) } ?? .null }
  package static func optionalQuantity(_ value: Int64?) -> Cell {
    value.map { .quantity($0) } ?? .null
  }

  /// A list of texts.
  package static func texts(_ texts: [String]) -> Cell {
    var writer = JSONWriter()
    writer.beginArray()
    for text in texts { writer.text(text) }
    writer.endArray()
    return .json(writer.bytes)
  }
}

extension JSONWriter {
  /// - Parameter quotesQuantities: whether quantities are written as strings.
  package mutating func cell(_ cell: Cell, quotesQuantities: Bool = false) {
    switch cell {
    case .null: null()
    case .text(let text): self.text(text)
    case .integer(let value): integer(value)
    case .quantity(let value):
      if quotesQuantities { text(String(value)) } else { integer(value) }
    // JSON has no NaN and no infinity.
    case .number(let value): raw(value.isFinite ? "\(value)" : "null")
    case .boolean(let value): boolean(value)
    case .time(let milliseconds): time(milliseconds)
    case .json(let bytes): raw(bytes)
    case .quantities(let bytes, let quoted): raw(quotesQuantities ? quoted : bytes)
    }
  }

  package mutating func member(_ name: String, cell: Cell, quotesQuantities: Bool = false) {
    self.name(name)
    self.cell(cell, quotesQuantities: quotesQuantities)
  }
}
