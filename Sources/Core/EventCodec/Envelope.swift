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
      guard var name = scanner.string(), scanner.take(0x3A) else { return false }
      var bytes = value.baseAddress!.assumingMemoryBound(to: UInt8.self)
      if name.hasEscapes {
        let output = arena.reserve(name.end - name.start)
        name = StringToken(
          start: 0, end: name.unescape(from: value, into: output).count, hasEscapes: false)
        bytes = UnsafePointer(output)
      }
      let key = Text(base: bytes + name.start, count: name.end - name.start)
      if inData {
        guard let member = Self.member(&scanner, depth: 2) else { return false }
        storeData(key, member)
      } else if key.equals("data") {
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
        store(key, member)
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
  private mutating func store(_ key: Text, _ member: Member) {
    switch key.count {
    case 2: if key.equals("id") { id = member }
    case 4:
      if key.equals("type") { type = member } else if key.equals("time") { time = member }
    case 6:
      if key.equals("source") {
        source = member
      } else if key.equals("import") {
        importBatch = member
      }
    case 7: if key.equals("subject") { subject = member }
    case 8:
      if key.equals("producer") {
        producer = member
      } else if key.equals("sequence") {
        sequence = member
      }
    case 11: if key.equals("specversion") { specversion = member }
    default: break
    }
  }

  @inline(__always)
  private mutating func storeData(_ key: Text, _ member: Member) {
    switch key.count {
    case 5:
      if key.equals("meter") { meter = member } else if key.equals("final") { final = member }
    case 6: if key.equals("domain") { domain = member }
    case 7:
      if key.equals("feature") {
        feature = member
      } else if key.equals("pending") {
        pending = member
      } else if key.equals("dropped") {
        dropped = member
      }
    case 8:
      if key.equals("quantity") {
        quantity = member
      } else if key.equals("accepted") {
        accepted = member
      }
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
