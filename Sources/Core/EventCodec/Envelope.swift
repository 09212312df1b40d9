import Metering

/// A member that we read, with the kind and the place of its last value.
struct Member {
  /// Nil if the member is absent.
  var kind: JSONKind?
  var hasEscapes = false
  var start: Int32 = 0
  var end: Int32 = 0
  /// The value of a number that is written as an integer from 0 to 2^63−1, and −1 otherwise.
  var integer: Int64 = -1

  var isInteger: Bool { integer >= 0 }
  var isAbsentOrNull: Bool { kind == nil || kind == .null }
}

/// The members of one CloudEvent that we read. From `meter` on they are members of `data`.
enum Field: UInt8 {
  case specversion, id, source, type, subject, time, producer, sequence, importBatch, data
  case dataContentType, dataBase64, traceparent
  case meter, quantity, domain, feature, accepted, pending, dropped, final, code, valid

  static let count = 23
}

/// The members of one CloudEvent, found in one pass over the whole document.
struct Envelope {
  private var members: InlineArray<23, Member> = .init(repeating: Member())

  subscript(_ field: Field) -> Member {
    // A Field's raw value is below 23.
    @inline(__always) get { members[unchecked: Int(field.rawValue)] }
    @inline(__always) set { members[unchecked: Int(field.rawValue)] = newValue }
  }

  enum Outcome { case object, notAnObject, notJSON }

  /// - Parameter spans: receives the places of the values, from which a `DocumentShape` can be
  ///   made.
  mutating func scan(
    _ value: UnsafeRawBufferPointer, arena: inout TextArena, spans: inout ValueSpans
  ) -> Outcome {
    var scanner = JSONScanner(value)
    guard scanner.peek() == 0x7B else {
      return scanner.skipValue(depth: 0) != nil && scanner.atEnd() ? .notAnObject : .notJSON
    }
    guard scanMembers(&scanner, value, &arena, &spans, inData: false, depth: 1), scanner.atEnd()
    else { return .notJSON }
    return .object
  }

  /// Reads the members of `data` from a separate document that `data_base64` contained.
  ///
  /// - Returns: false if it is not one JSON object. The members are then useless.
  mutating func scanData(
    _ data: UnsafeRawBufferPointer, arena: inout TextArena, spans: inout ValueSpans
  ) -> Bool {
    var scanner = JSONScanner(data)
    guard scanMembers(&scanner, data, &arena, &spans, inData: true, depth: 1), scanner.atEnd()
    else { return false }
    self[.data] = Member(kind: .object)
    return true
  }

  /// Reads an object whose opening brace is next. `depth` containers are open, and this object is
  /// one of them.
  private mutating func scanMembers(
    _ scanner: inout JSONScanner, _ value: UnsafeRawBufferPointer, _ arena: inout TextArena,
    _ spans: inout ValueSpans, inData: Bool, depth: Int
  ) -> Bool {
    guard scanner.take(0x7B) else { return false }
    if scanner.peek() == 0x7D { return scanner.take(0x7D) }
    while true {
      let name = scanner.name { token in
        let output = arena.reserve(token.end - token.start)
        let length = token.unescape(from: value, into: output).count
        return MemberName(UnsafeRawBufferPointer(start: output, count: length))
      }
      guard let name else { return false }
      let field = inData ? name.fieldOfData : name.field
      if field == .data {
        clearData()
        if scanner.peek() == 0x7B {
          guard scanMembers(&scanner, value, &arena, &spans, inData: true, depth: 2) else {
            return false
          }
          self[.data] = Member(kind: .object)
          spans.note(.data, self[.data])
          if scanner.take(0x2C) { continue }
          return scanner.take(0x7D)
        }
      }
      guard let member = Self.member(&scanner, depth: depth) else { return false }
      if let field { self[field] = member }
      spans.note(field, member)
      if scanner.take(0x2C) { continue }
      return scanner.take(0x7D)
    }
  }

  /// Reads any value, within `depth` open containers.
  @inline(__always)
  private static func member(
    _ scanner: inout JSONScanner, depth: Int
  ) -> Member? {
    switch scanner.peek() {
    case 0x22:
      guard let token = scanner.string() else { return nil }
      return Member(
        kind: .string, hasEscapes: token.hasEscapes, start: Int32(token.start),
        end: Int32(token.end))
    case 0x2D, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39:
      let start = scanner.position
      guard let token = scanner.number() else { return nil }
      return Member(
        kind: .number, start: Int32(start), end: Int32(scanner.position),
        integer: token.integer(upTo: .max) ?? -1)
    default:
      guard let kind = scanner.skipValue(depth: depth) else { return nil }
      return Member(kind: kind)
    }
  }

  /// If `data` is repeated, the last one counts as a whole.
  private mutating func clearData() {
    guard self[.data].kind != nil else { return }
    for i in Int(Field.meter.rawValue)..<Field.count { members[i] = Member() }
  }
}

extension MemberName {
  /// The field of a member of the envelope.
  fileprivate var field: Field? {
    @inline(__always) get {
      switch (first, length) {
      case (Name.id, 2): .id
      case (Name.type, 4): .type
      case (Name.time, 4): .time
      case (Name.data, 4): .data
      case (Name.source, 6): .source
      case (Name.importBatch, 6): .importBatch
      case (Name.subject, 7): .subject
      case (Name.producer, 8): .producer
      case (Name.sequence, 8): .sequence
      case (Name.specvers, 11): second == Name.ion ? .specversion : nil
      case (Name.dataBase, 11): second == Name.e64 ? .dataBase64 : nil
      case (Name.tracepar, 11): second == Name.ent ? .traceparent : nil
      case (Name.dataCont, 15): second == Name.entType ? .dataContentType : nil
      default: nil
      }
    }
  }

  fileprivate var fieldOfData: Field? {
    @inline(__always) get {
      switch (first, length) {
      case (Name.meter, 5): .meter
      case (Name.final, 5): .final
      case (Name.code, 4): .code
      case (Name.valid, 5): .valid
      case (Name.domain, 6): .domain
      case (Name.feature, 7): .feature
      case (Name.pending, 7): .pending
      case (Name.dropped, 7): .dropped
      case (Name.quantity, 8): .quantity
      case (Name.accepted, 8): .accepted
      default: nil
      }
    }
  }
}

/// The bytes of the names as little-endian numbers (see `MemberName`).
private enum Name {
  static let id: UInt64 = 0x6469
  static let type: UInt64 = 0x6570_7974
  static let time: UInt64 = 0x656D_6974
  static let data: UInt64 = 0x6174_6164
  static let source: UInt64 = 0x6563_7275_6F73
  static let importBatch: UInt64 = 0x7472_6F70_6D69
  static let subject: UInt64 = 0x74_6365_6A62_7573
  static let producer: UInt64 = 0x7265_6375_646F_7270
  static let sequence: UInt64 = 0x6563_6E65_7571_6573
  static let specvers: UInt64 = 0x7372_6576_6365_7073
  static let ion: UInt64 = 0x6E6F69
  static let dataBase: UInt64 = 0x7361_625F_6174_6164
  static let e64: UInt64 = 0x34_3665
  static let tracepar: UInt64 = 0x7261_7065_6361_7274
  static let ent: UInt64 = 0x74_6E65
  static let dataCont: UInt64 = 0x746E_6F63_6174_6164
  static let entType: UInt64 = 0x65_7079_7474_6E65
  static let meter: UInt64 = 0x72_6574_656D
  static let final: UInt64 = 0x6C_616E_6966
  static let code: UInt64 = 0x6564_6F63
  static let valid: UInt64 = 0x64_696C_6176
  static let domain: UInt64 = 0x6E69_616D_6F64
  static let feature: UInt64 = 0x65_7275_7461_6566
  static let pending: UInt64 = 0x67_6E69_646E_6570
  static let dropped: UInt64 = 0x64_6570_706F_7264
  static let quantity: UInt64 = 0x7974_6974_6E61_7571
  static let accepted: UInt64 = 0x6465_7470_6563_6361
}
