/// The skeleton of a document that was read. It consists of runs of constant bytes, with values
/// between them that differ from event to event.
///
/// A sender writes all its events with one encoder, so names, punctuation, `specversion`, `type`
/// and `meter` are the same bytes each time. Comparing those bytes eight at a time, and scanning
/// only the values between them, is a sixth of the work of reading the document.
///
/// A match is equivalent to a whole scan for this reason. The document has the same tokens in the
/// same order as one that a whole scan accepted, except for strings and numbers. Those are scanned
/// by the grammar. JSON's grammar makes no difference between strings or between numbers. All names
/// are constant bytes, so the same members are chosen. The values are checked afterwards, as
/// always.
struct DocumentShape: ~Copyable {
  /// A run of constant bytes, followed by a value or the document's end.
  private struct Piece {
    enum Follower: UInt8 { case string, number, end }

    var bytes: UnsafeMutableRawPointer
    var count: Int
    var follower: Follower
    /// The field of the value, or nil if nobody reads it.
    var field: Field?
  }

  /// A member that we read and whose value is part of the constant bytes.
  private struct Constant {
    var field: Field
    var piece: Int
    var offset: Int32
    var count: Int32
  }

  /// Longer documents are rare, and their shapes are not kept.
  static let maxBytes = 2_048

  private let bytes: UnsafeMutableRawPointer
  private let pieces: UnsafeMutablePointer<Piece>
  private let starts: UnsafeMutablePointer<Int32>
  private let constants: UnsafeMutablePointer<Constant>
  private var pieceCount = 0
  private var constantCount = 0
  /// The members of the document that matched last.
  private(set) var envelope = Envelope()

  init() {
    bytes = .allocate(byteCount: Self.maxBytes, alignment: 64)
    pieces = .allocate(capacity: ValueSpans.capacity + 1)
    starts = .allocate(capacity: ValueSpans.capacity + 1)
    constants = .allocate(capacity: ValueSpans.capacity)
  }

  deinit {
    bytes.deallocate()
    pieces.deallocate()
    starts.deallocate()
    constants.deallocate()
  }

  /// Learns the shape of a document that a whole scan accepted.
  ///
  /// - Precondition: `spans.isUsable`, and the document is at most `maxBytes` long.
  mutating func learn(
    _ value: UnsafeRawBufferPointer, _ envelope: Envelope, _ spans: borrowing ValueSpans
  ) {
    bytes.copyMemory(from: value.baseAddress!, byteCount: value.count)
    self.envelope = envelope
    pieceCount = 0
    constantCount = 0
    var start = 0
    for i in 0..<spans.count {
      let span = spans[i]
      if span.isConstant {
        constants[constantCount] = Constant(
          field: span.field!, piece: pieceCount, offset: span.start - Int32(start),
          count: span.end - span.start)
        constantCount += 1
      } else {
        // The quote before a string belongs to the constant bytes. The quote after it belongs to
        // the string.
        append(
          Piece(
            bytes: bytes + start, count: Int(span.start) - start,
            follower: span.isNumber ? .number : .string, field: span.field))
        start = Int(span.end) + (span.isNumber ? 0 : 1)
      }
    }
    append(Piece(bytes: bytes + start, count: value.count - start, follower: .end, field: nil))
  }

  private mutating func append(_ piece: Piece) {
    pieces[pieceCount] = piece
    pieceCount += 1
  }

  /// Whether the document has this shape. If so, `envelope` holds its members.
  @inline(__always)
  mutating func matches(_ value: UnsafeRawBufferPointer) -> Bool {
    var scanner = JSONScanner(value)
    for i in 0..<pieceCount {
      let piece = pieces[i]
      starts[i] = Int32(truncatingIfNeeded: scanner.position)
      guard scanner.take(piece.bytes, piece.count) else { return false }
      switch piece.follower {
      case .string:
        guard let token = scanner.restOfString(), !token.hasEscapes else { return false }
        if let field = piece.field {
          envelope[field] = Member(
            kind: .string, start: Int32(truncatingIfNeeded: token.start),
            end: Int32(truncatingIfNeeded: token.end))
        }
      case .number:
        guard let token = scanner.number() else { return false }
        if let field = piece.field {
          envelope[field] = Member(kind: .number, integer: token.integer(upTo: .max) ?? -1)
        }
      case .end:
        guard scanner.position == value.count else { return false }
      }
    }
    for i in 0..<constantCount {
      let constant = constants[i]
      let start = starts[constant.piece] &+ constant.offset
      envelope[constant.field].start = start
      envelope[constant.field].end = start &+ constant.count
    }
    return true
  }
}

/// The shapes of the last documents. There is one for each encoder that sends at the same time,
/// which is usually one.
struct DocumentShapes: ~Copyable {
  static let capacity = 4

  private let shapes: UnsafeMutablePointer<DocumentShape>
  private var count = 0
  private var last = 0
  private var replaced = 0

  init() { shapes = .allocate(capacity: Self.capacity) }

  deinit {
    shapes.deinitialize(count: count)
    shapes.deallocate()
  }

  /// The shape that the document has, which then holds its members. Nil if no known shape matches.
  @inline(__always)
  mutating func match(_ value: UnsafeRawBufferPointer) -> UnsafeMutablePointer<DocumentShape>? {
    guard count > 0 else { return nil }
    if shapes[last].matches(value) { return shapes + last }
    return matchOthers(value)
  }

  private mutating func matchOthers(
    _ value: UnsafeRawBufferPointer
  ) -> UnsafeMutablePointer<DocumentShape>? {
    for i in 0..<count where i != last && shapes[i].matches(value) {
      last = i
      return shapes + i
    }
    return nil
  }

  /// Remembers the shape of a document that matched none.
  mutating func learn(
    _ value: UnsafeRawBufferPointer, _ envelope: Envelope, _ spans: borrowing ValueSpans
  ) {
    guard spans.isUsable, value.count <= DocumentShape.maxBytes else { return }
    if count < Self.capacity {
      (shapes + count).initialize(to: DocumentShape())
      last = count
      count += 1
    } else {
      replaced = (replaced + 1) % Self.capacity
      last = replaced
    }
    shapes[last].learn(value, envelope, spans)
  }
}

/// The places of a document's values in the order of the scan.
struct ValueSpans: ~Copyable {
  struct Span {
    var start: Int32
    var end: Int32
    var isNumber: Bool
    var field: Field?

    /// Whether the value is the same in all events of one encoder, so that its bytes need no scan.
    var isConstant: Bool {
      field == .specversion || field == .type || field == .meter || field == .dataContentType
    }
  }

  static let capacity = 32

  private let spans: UnsafeMutablePointer<Span>
  private(set) var count = 0
  private(set) var isUsable = true
  private var seen: UInt32 = 0

  init() { spans = .allocate(capacity: Self.capacity) }

  deinit { spans.deallocate() }

  subscript(_ i: Int) -> Span { spans[i] }

  mutating func removeAll() {
    count = 0
    isUsable = true
    seen = 0
  }

  /// Values that contain no string or number are constant bytes. A document with a repeated member
  /// or a text with escapes makes no shape. Such documents are rare, and this keeps shapes simple.
  @inline(__always)
  mutating func note(_ field: Field?, _ member: Member) {
    if let field {
      let bit: UInt32 = 1 << UInt32(field.rawValue)
      if seen & bit != 0 { isUsable = false }
      seen |= bit
    }
    guard member.kind == .string || member.kind == .number else { return }
    guard count < Self.capacity, !member.hasEscapes else {
      isUsable = false
      return
    }
    spans[count] = Span(
      start: member.start, end: member.end, isNumber: member.kind == .number, field: field)
    count += 1
  }
}
