import Metering

/// Decodes records of `license.usage.v1` or `license.validations.v1` into events, as
/// `docs/event-validation.md` specifies.
///
/// Each consumer thread has its own decoder. `decode` does not allocate in steady state. The texts
/// of its results stay valid until `reset()`.
package struct EventDecoder: ~Copyable {
  /// The type of events that a topic carries in addition to its producers' reports.
  package enum Reads: Sendable { case usage, validations }

  package let maxQuantity: Int64
  private let reads: Reads
  private var arena = TextArena()
  private var lastTime = Timestamp.Memory()
  private var shapes = DocumentShapes()
  private var spans = ValueSpans()
  /// The spans of data that came in base64. No shape is made from them.
  private var dataSpans = ValueSpans()

  package init(_ reads: Reads = .usage, maxQuantity: Int64 = Limits.quantity) {
    self.reads = reads
    self.maxQuantity = maxQuantity
  }

  /// Invalidates the texts of all events decoded so far.
  package mutating func reset() { arena.reset() }

  /// Decodes one record. It checks everything except the event's time against the record's
  /// (`EventTimeBounds`), which depends on registered imports.
  package mutating func decode(_ record: RecordBytes) -> DecodedEvent {
    var event = DecodedEvent()
    decode(record, into: &event)
    return event
  }

  /// Decodes one record in place, for a caller that keeps its events in an array.
  package mutating func decode(_ record: RecordBytes, into event: inout DecodedEvent) {
    event = DecodedEvent()
    guard let value = record.value else { return event.reject(.tombstone) }
    guard value.count <= Limits.valueBytes else { return event.reject(.overSize) }
    if let shape = shapes.match(value) {
      // Its memory belongs to the decoder, and no code below learns another shape.
      return finish(shape.pointee.envelope, value, record.key, into: &event)
    }
    var envelope = Envelope()
    spans.removeAll()
    switch envelope.scan(value, arena: &arena, spans: &spans) {
    case .notJSON: return event.reject(.notJSON)
    case .notAnObject: return event.reject(.notCloudEvent)
    case .object: break
    }
    finish(envelope, value, record.key, into: &event)
    if event.isEvent { shapes.learn(value, envelope, spans) }
  }

  private mutating func finish(
    _ envelope: Envelope, _ value: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer?,
    into event: inout DecodedEvent
  ) {
    if let reason = validate(envelope, value, key, into: &event) {
      event.reject(reason, ledgerKey: ledgerKey(envelope, value))
    }
  }

  // MARK: The checks, in the specification's order

  private mutating func validate(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer?,
    into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard e[.specversion].kind == .string, isVersionOne(e[.specversion], value),
      e[.id].kind == .string, e[.source].kind == .string, e[.type].kind == .string
    else { return .notCloudEvent }
    let id: Text
    let source: Text
    let type: Text
    switch text(e[.id], value) {
    case .problem(let reason): return reason
    case .text(let t): id = t
    }
    switch text(e[.source], value) {
    case .problem(let reason): return reason
    case .text(let t): source = t
    }
    switch text(e[.type], value) {
    case .problem(let reason): return reason
    case .text(let t): type = t
    }
    guard id.count > 0, source.count > 0, type.count > 0 else { return .notCloudEvent }
    guard id.count <= Limits.identityBytes, source.count <= Limits.identityBytes else {
      return .overSize
    }
    let isEvent =
      reads == .usage
      ? type.equals("license.usage.recorded") : type.equals("license.validation.performed")
    guard isEvent || type.equals("license.producer.reported") else { return .wrongType }
    switch producer(e, value) {
    case .problem(let reason): return reason
    case .text(let t): event.producer = t
    }
    if !isEvent { return validateReport(e, value, key, into: &event) }
    event.id = id
    event.source = source
    if let reason = validateEvent(e, value, into: &event) { return reason }
    if e[.dataBase64].isAbsentOrNull {
      if let reason = validateData(e, value, into: &event) { return reason }
    } else {
      var decoded = e
      switch decodeData(&decoded, value) {
      case .problem(let reason): return reason
      case .data(let data):
        if let reason = validateData(decoded, data, into: &event) { return reason }
      }
    }
    guard let key, event.subject.equals(key) else { return .keyMismatch }
    event.kind = reads == .usage ? .usage : .validation
    return nil
  }

  /// Checks what usage events and validations have in common.
  @inline(__always)
  private mutating func validateEvent(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard e[.subject].kind == .string else { return .noSubject }
    switch text(e[.subject], value) {
    case .problem(let reason): return reason
    case .text(let t): event.subject = t
    }
    guard event.subject.count > 0 else { return .noSubject }
    guard event.subject.count <= Limits.subjectBytes else { return .overSize }
    guard e[.sequence].isAbsentOrNull || e[.sequence].isInteger else { return .badSequence }
    if e[.sequence].isInteger, !event.producer.isAbsent { event.sequence = e[.sequence].integer }
    if let reason = validateTime(e[.time], value, into: &event) { return reason }
    switch optionalText(e[.importBatch], value) {
    case .problem(let reason): return reason
    case .text(let t):
      guard t.isAbsent || (1...Limits.importBytes).contains(t.count) else { return .badData }
      event.importBatch = t
    }
    if e[.traceparent].kind == .string { event.traceparent = traceparent(e[.traceparent], value) }
    return nil
  }

  /// - Parameter value: the bytes in which the members of `data` lie.
  @inline(__always)
  private mutating func validateData(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    reads == .usage
      ? validateUsage(e, value, into: &event) : validateValidation(e, value, into: &event)
  }

  @inline(__always)
  private mutating func validateUsage(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard e[.data].kind == .object || e[.data].kind == nil else { return .badData }
    if let reason = validateMeter(e[.meter], value, into: &event) { return reason }
    if e[.quantity].kind != nil {
      guard e[.quantity].isInteger, e[.quantity].integer <= maxQuantity else { return .badQuantity }
      event.quantity = e[.quantity].integer
    }
    switch optionalText(e[.domain], value) {
    case .problem(let reason): return reason
    case .text(let t): event.domain = Self.dimension(t)
    }
    switch optionalText(e[.feature], value) {
    case .problem(let reason): return reason
    case .text(let t): event.feature = Self.dimension(t)
    }
    return nil
  }

  private mutating func validateValidation(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard e[.data].kind == .object, e[.code].kind == .string,
      e[.valid].kind == .true || e[.valid].kind == .false
    else { return .badData }
    switch text(e[.code], value) {
    case .problem(let reason): return reason
    case .text(let t):
      guard let code = VerdictCode.allCases.first(where: { t.equals($0.name) }) else {
        return .badData
      }
      event.code = code
    }
    switch optionalText(e[.domain], value) {
    case .problem(let reason): return reason
    case .text(let t): event.domain = Self.dimension(t)
    }
    return nil
  }

  private mutating func validateTime(
    _ time: Member, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard time.kind == .string else { return .badTime }
    // A text with U+0000 or a lone surrogate is not RFC 3339 either, so the reason is the same.
    guard case .text(let text) = text(time, value),
      let milliseconds = Timestamp.milliseconds(text.buffer, &lastTime)
    else { return .badTime }
    event.time = milliseconds
    return nil
  }

  private mutating func validateMeter(
    _ meter: Member, _ value: UnsafeRawBufferPointer, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard meter.kind != nil else { return nil }
    guard meter.kind == .string, case .text(let text) = text(meter, value),
      (1...Limits.meterBytes).contains(text.count)
    else { return .badMeter }
    guard text.buffer[0] &- 0x61 < 26 else { return .badMeter }
    for b in text.buffer where !(b &- 0x61 < 26 || b &- 0x30 < 10 || b == 0x5F) { return .badMeter }
    event.meter = text
    return nil
  }

  private mutating func validateReport(
    _ e: Envelope, _ value: UnsafeRawBufferPointer, _ key: UnsafeRawBufferPointer?,
    into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard !event.producer.isAbsent else { return .badSequence }
    // Only numbers and a flag are read from a report's data, so its bytes are not needed.
    guard e[.dataBase64].isAbsentOrNull else {
      var decoded = e
      if case .problem(let reason) = decodeData(&decoded, value) { return reason }
      return validateReportData(decoded, key, into: &event)
    }
    return validateReportData(e, key, into: &event)
  }

  private func validateReportData(
    _ e: Envelope, _ key: UnsafeRawBufferPointer?, into event: inout DecodedEvent
  ) -> RejectionReason? {
    guard e[.data].kind == .object, e[.accepted].isInteger, e[.pending].isInteger,
      e[.dropped].isInteger
    else { return .badData }
    switch e[.final].kind {
    case .true: event.isFinal = true
    case .false, nil: break
    default: return .badData
    }
    guard let key, event.producer.equals(key) else { return .keyMismatch }
    event.accepted = e[.accepted].integer
    event.pending = e[.pending].integer
    event.dropped = e[.dropped].integer
    event.kind = .report
    return nil
  }

  // MARK: Data in base64

  private enum DataReading {
    case data(UnsafeRawBufferPointer)
    case problem(RejectionReason)
  }

  /// Replaces the members of `data` with those in `data_base64`.
  private mutating func decodeData(
    _ e: inout Envelope, _ value: UnsafeRawBufferPointer
  ) -> DataReading {
    guard e[.data].kind == nil, e[.dataBase64].kind == .string else { return .problem(.badData) }
    let encoded: Text
    switch text(e[.dataBase64], value) {
    case .problem(let reason): return .problem(reason)
    case .text(let t): encoded = t
    }
    switch optionalText(e[.dataContentType], value) {
    case .problem(let reason): return .problem(reason)
    case .text(let t):
      guard t.isAbsent || Base64Data.isJSON(mediaType: t.buffer) else { return .problem(.badData) }
    }
    guard encoded.count > 0 else { return .problem(.badData) }
    let output = arena.reserve(encoded.count)
    guard let count = Base64Data.decode(encoded.buffer, into: output) else {
      return .problem(.badData)
    }
    let data = UnsafeRawBufferPointer(start: output, count: count)
    dataSpans.removeAll()
    guard e.scanData(data, arena: &arena, spans: &dataSpans) else { return .problem(.badData) }
    return .data(data)
  }

  // MARK: Texts

  private enum Reading {
    case text(Text)
    case problem(RejectionReason)
  }

  @inline(__always)
  private mutating func text(_ member: Member, _ value: UnsafeRawBufferPointer) -> Reading {
    if member.hasEscapes { return unescaped(member, value) }
    let base = value.baseAddress!.assumingMemoryBound(to: UInt8.self) + Int(member.start)
    return .text(Text(base: base, count: Int(member.end - member.start)))
  }

  private mutating func unescaped(_ member: Member, _ value: UnsafeRawBufferPointer) -> Reading {
    let token = StringToken(start: Int(member.start), end: Int(member.end), hasEscapes: true)
    let output = arena.reserve(token.end - token.start)
    let (count, problem) = token.unescape(from: value, into: output)
    switch problem {
    case .nul: return .problem(.nulInText)
    case .loneSurrogate: return .problem(.badText)
    case nil: return .text(Text(base: output, count: count))
    }
  }

  private mutating func optionalText(_ member: Member, _ value: UnsafeRawBufferPointer) -> Reading {
    if member.isAbsentOrNull { return .text(.absent) }
    guard member.kind == .string else { return .problem(.badData) }
    return text(member, value)
  }

  /// An invalid `traceparent` counts as absent. It never makes the event a dead letter.
  private mutating func traceparent(_ member: Member, _ value: UnsafeRawBufferPointer) -> Text {
    guard case .text(let text) = text(member, value), TraceContext(text.buffer) != nil else {
      return .absent
    }
    return Text(base: text.base, count: TraceContext.length)
  }

  private mutating func producer(_ e: Envelope, _ value: UnsafeRawBufferPointer) -> Reading {
    if e[.producer].isAbsentOrNull { return .text(.absent) }
    guard e[.producer].kind == .string else { return .problem(.badSequence) }
    let reading = text(e[.producer], value)
    if case .text(let t) = reading, !(1...Limits.producerBytes).contains(t.count) {
      return .problem(.badSequence)
    }
    return reading
  }

  /// The producer and the sequence of a rejected event, if both can be read.
  private mutating func ledgerKey(
    _ e: Envelope, _ value: UnsafeRawBufferPointer
  ) -> (producer: Text, sequence: Int64)? {
    guard e[.sequence].isInteger, case .text(let t) = producer(e, value), !t.isAbsent else {
      return nil
    }
    return (t, e[.sequence].integer)
  }

  private mutating func isVersionOne(_ member: Member, _ value: UnsafeRawBufferPointer) -> Bool {
    guard case .text(let text) = text(member, value) else { return false }
    return text.equals("1.0")
  }

  /// An empty dimension counts as absent. A long one is cut at the end of a character.
  private static func dimension(_ text: Text) -> Text {
    if text.count == 0 { return .absent }
    guard text.count > Limits.dimensionBytes else { return text }
    var end = Limits.dimensionBytes
    while text.buffer[end] & 0xC0 == 0x80 { end -= 1 }
    return Text(base: text.base, count: end)
  }
}

extension DecodedEvent {
  fileprivate mutating func reject(
    _ reason: RejectionReason, ledgerKey: (producer: Text, sequence: Int64)? = nil
  ) {
    self = DecodedEvent()
    self.reason = reason
    if let ledgerKey {
      producer = ledgerKey.producer
      sequence = ledgerKey.sequence
    }
  }
}

extension Text {
  @inline(__always)
  func equals(_ literal: StaticString) -> Bool {
    equals(UnsafeRawBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
  }
}

/// Check 22 of the specification, which compares an event's time with its record's.
package enum EventTimeBounds {
  package enum Verdict { case fine, tooFarAhead, tooOld }

  /// All times are in milliseconds. A record without a timestamp (negative) cannot be checked, so
  /// it passes.
  @inline(__always)
  package static func judge(time: Int64, record: Int64, maxAge: Int64) -> Verdict {
    if record < 0 { return .fine }
    // Producers set the record's timestamp to values up to 2^63−1, so adding to it could trap. An
    // event's time is bounded by the year 9999.
    if time - Limits.aheadMilliseconds > record { return .tooFarAhead }
    return time < record - maxAge ? .tooOld : .fine
  }
}
