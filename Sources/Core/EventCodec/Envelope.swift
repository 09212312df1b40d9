import Metering

/// A member that we read: what stood there last, and where.
struct Member {
  /// nil: absent.
  var kind: JSONKind?
  var hasEscapes = false
  var start: Int32 = 0
  var end: Int32 = 0
  /// The value of a number written as an integer from 0 to 2^63−1; else −1.
  var integer: Int64 = -1

  var isInteger: Bool { integer >= 0 }
  var isAbsentOrNull: Bool { kind == nil || kind == .null }
}

/// The members of one CloudEvent that we read, found in one pass over the whole document.
struct Envelope {
  var specversion = Member()
  var id = Member()
  var source = Member()
  var type = Member()
  var subject = Member()
  var time = Member()
  var producer = Member()
  var sequence = Member()
  var importBatch = Member()
  var data = Member()

  // Members of data.
  var meter = Member()
  var quantity = Member()
  var domain = Member()
  var feature = Member()
  var accepted = Member()
  var pending = Member()
  var dropped = Member()
  var final = Member()

  enum Outcome { case object, notAnObject, notJSON }

  mutating func scan(_ value: UnsafeRawBufferPointer, arena: inout TextArena) -> Outcome {
    var scanner = JSONScanner(value)
    guard scanner.peek() == 0x7B else {
      return scanner.skipValue(depth: 0) != nil && scanner.atEnd() ? .notAnObject : .notJSON
    }
    guard scanMembers(&scanner, value, &arena, inData: false), scanner.atEnd() else {
      return .notJSON
    }
    return .object
  }

  /// Reads an object whose opening brace is next.
  private mutating func scanMembers(
    _ scanner: inout JSONScanner, _ value: UnsafeRawBufferPointer, _ arena: inout TextArena,
    inData: Bool
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
      if inData {
        guard let member = Self.member(&scanner, depth: 2) else { return false }
        storeData(name, member)
      } else if name.first == Name.data, name.length == 4 {
        clearData()
        if scanner.peek() == 0x7B {
          guard scanMembers(&scanner, value, &arena, inData: true) else { return false }
          data = Member(kind: .object)
        } else {
          guard let member = Self.member(&scanner, depth: 1) else { return false }
          data = member
        }
      } else {
        guard let member = Self.member(&scanner, depth: 1) else { return false }
        store(name, member)
      }
      if scanner.take(0x2C) { continue }
      return scanner.take(0x7D)
    }
  }

  /// Reads any value, within `depth` open containers.
  @inline(__always)
  private static func member(_ scanner: inout JSONScanner, depth: Int) -> Member? {
    switch scanner.peek() {
    case 0x22:
      guard let token = scanner.string() else { return nil }
      return Member(
        kind: .string, hasEscapes: token.hasEscapes, start: Int32(token.start),
        end: Int32(token.end))
    case 0x2D, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39:
      guard let token = scanner.number() else { return nil }
      return Member(kind: .number, integer: token.integer(upTo: .max) ?? -1)
    default:
      guard let kind = scanner.skipValue(depth: depth) else { return nil }
      return Member(kind: kind)
    }
  }

  @inline(__always)
  private mutating func store(_ name: MemberName, _ member: Member) {
    switch (name.first, name.length) {
    case (Name.id, 2): id = member
    case (Name.type, 4): type = member
    case (Name.time, 4): time = member
    case (Name.source, 6): source = member
    case (Name.importBatch, 6): importBatch = member
    case (Name.subject, 7): subject = member
    case (Name.producer, 8): producer = member
    case (Name.sequence, 8): sequence = member
    case (Name.specvers, 11): if name.second == Name.ion { specversion = member }
    default: break
    }
  }

  @inline(__always)
  private mutating func storeData(_ name: MemberName, _ member: Member) {
    switch (name.first, name.length) {
    case (Name.meter, 5): meter = member
    case (Name.final, 5): final = member
    case (Name.domain, 6): domain = member
    case (Name.feature, 7): feature = member
    case (Name.pending, 7): pending = member
    case (Name.dropped, 7): dropped = member
    case (Name.quantity, 8): quantity = member
    case (Name.accepted, 8): accepted = member
    default: break
    }
  }

  /// The last `data` counts, whole.
  private mutating func clearData() {
    guard data.kind != nil else { return }
    meter = Member()
    quantity = Member()
    domain = Member()
    feature = Member()
    accepted = Member()
    pending = Member()
    dropped = Member()
    final = Member()
  }
}

/// The names' bytes as little-endian numbers, see `MemberName`.
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
  static let meter: UInt64 = 0x72_6574_656D
  static let final: UInt64 = 0x6C_616E_6966
  static let domain: UInt64 = 0x6E69_616D_6F64
  static let feature: UInt64 = 0x65_7275_7461_6566
  static let pending: UInt64 = 0x67_6E69_646E_6570
  static let dropped: UInt64 = 0x64_6570_706F_7264
  static let quantity: UInt64 = 0x7974_6974_6E61_7571
  static let accepted: UInt64 = 0x6465_7470_6563_6361
}
