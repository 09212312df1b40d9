/// The skeleton of a document that was read: runs of constant bytes, and between them values that differ from event to event.
///
/// A sender writes event after event with one encoder: names, punctuation, `specversion`, `type` and `meter` are the same bytes each time.
/// Comparing those bytes eight at a time and scanning only the values between them is a sixth of the work of reading the document.
///
/// Why a match means the same as a whole scan: the document consists of the very tokens of one that a whole scan accepted, in the same
/// order, but for strings and numbers in the places of strings and numbers, each scanned by the grammar. JSON's grammar sees no
/// difference between them, and neither does the choice of members, since all names are constant bytes. What the values mean is
/// checked afterwards, as always.
struct DocumentShape: ~Copyable {
  /// Constant bytes, then a value or the document's end.
  private struct Piece {
    enum Follower: UInt8 { case string, number, end }

    var bytes: UnsafeMutableRawPointer
    var count: Int
    var follower: Follower
    /// Where the value goes; nil: nobody reads it.
    var field: Field?
  }

  /// A member that we read and that is part of the constant bytes.
  private struct Constant {
    var field: Field
    var piece: Int
    var offset: Int32
    var count: Int32
  }

  /// Longer documents than this are rare, and not worth keeping.
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

  /// Takes the shape of a document that a whole scan accepted.
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
        // A string's quote before it belongs to the constant bytes, the one behind it to the string.
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

  /// Whether the document has this shape; then `envelope` holds its members.
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

/// The shapes of the documents met last: as many as there are encoders that send at the same time, mostly one.
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

  /// The shape that the document has, holding its members; nil where it has none that is known.
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

  /// Remembers the shape of a document that no shape matched.
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

/// Where a document's values stand, as a scan meets them.
struct ValueSpans: ~Copyable {
  struct Span {
    var start: Int32
    var end: Int32
    var isNumber: Bool
    var field: Field?

    /// The same in all events of one encoder, so that its bytes need no scan.
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

  /// Values that hold no string or number of their own are constant bytes. A member that comes twice, or a text with escapes, makes no
  /// shape: rare, and it keeps shapes simple.
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
