import JSONText
import Metering
import Tracing

/// The exported data of a span.
struct SpanRecord: Sendable {
  /// The largest number of events. More are dropped, so that no span is large.
  static let mostEvents = 32
  static let mostAttributes = 64
  static let mostTextBytes = 1_024

  var trace: TraceContext
  var parentSpanID: UInt64
  var name: String
  var kind: SpanKind
  var beganNanoseconds: UInt64
  var endedNanoseconds: UInt64 = 0
  var attributes: SpanAttributes = [:]
  var status: SpanStatus?
  private(set) var events: [SpanEvent] = []

  init(
    trace: TraceContext, parentSpanID: UInt64, name: String, kind: SpanKind,
    beganNanoseconds: UInt64
  ) {
    self.trace = trace
    self.parentSpanID = parentSpanID
    self.name = name
    self.kind = kind
    self.beganNanoseconds = beganNanoseconds
  }

  mutating func add(_ event: SpanEvent) {
    if events.count < Self.mostEvents { events.append(event) }
  }

  // MARK: OTLP

  /// The body of an OTLP request in OTLP's form of protobuf JSON. Ids are hexadecimal, and 64-bit
  /// numbers are texts.
  static func document(_ spans: some Collection<SpanRecord>, of resource: Resource) -> [UInt8] {
    var json = JSONWriter(reserving: 512 * (1 + spans.count))
    json.beginObject()
    json.name("resourceSpans")
    json.beginArray()
    json.beginObject()
    json.name("resource")
    json.beginObject()
    write(resource.attributes, to: &json)
    json.endObject()
    json.name("scopeSpans")
    json.beginArray()
    json.beginObject()
    json.name("scope")
    json.beginObject()
    json.member("name", "license-metering")
    json.endObject()
    json.name("spans")
    json.beginArray()
    for span in spans { span.write(to: &json) }
    json.endArray()
    json.endObject()
    json.endArray()
    json.endObject()
    json.endArray()
    json.endObject()
    return json.bytes
  }

  /// The program that makes the spans.
  struct Resource: Sendable {
    let attributes: SpanAttributes

    init(service: String, version: String, instance: String) {
      attributes = [
        "service.name": .string(service), "service.version": .string(version),
        "service.instance.id": .string(instance),
      ]
    }
  }

  private func write(to json: inout JSONWriter) {
    json.beginObject()
    json.member("traceId", trace.traceIDText)
    json.member("spanId", trace.spanIDText)
    if let parent = trace.child(spanID: parentSpanID) {
      json.member("parentSpanId", parent.spanIDText)
    }
    json.member("flags", Int64(trace.flags))
    json.member("name", Self.cut(name))
    json.member("kind", Self.number(kind))
    json.member("startTimeUnixNano", "\(beganNanoseconds)")
    json.member("endTimeUnixNano", "\(max(endedNanoseconds, beganNanoseconds))")
    Self.write(attributes, to: &json)
    if !events.isEmpty {
      json.name("events")
      json.beginArray()
      for event in events {
        json.beginObject()
        json.member("timeUnixNano", "\(event.nanosecondsSinceEpoch)")
        json.member("name", Self.cut(event.name))
        Self.write(event.attributes, to: &json)
        json.endObject()
      }
      json.endArray()
    }
    if let status {
      json.name("status")
      json.beginObject()
      json.member("code", status.code == .error ? 2 : 1)
      if let message = status.message { json.member("message", Self.cut(message)) }
      json.endObject()
    }
    json.endObject()
  }

  /// `opentelemetry.proto.trace.v1.Span.SpanKind`.
  private static func number(_ kind: SpanKind) -> Int64 {
    switch kind {
    case .internal: 1
    case .server: 2
    case .client: 3
    case .producer: 4
    case .consumer: 5
    }
  }

  private static func write(_ attributes: SpanAttributes, to json: inout JSONWriter) {
    json.name("attributes")
    json.beginArray()
    var count = 0
    func writeOne(_ name: String, _ value: SpanAttribute) {
      guard count < mostAttributes else { return }
      count += 1
      json.beginObject()
      json.member("key", cut(name))
      json.name("value")
      write(value, to: &json)
      json.endObject()
    }
    attributes.forEach(writeOne)
    json.endArray()
  }

  /// `opentelemetry.proto.common.v1.AnyValue`.
  private static func write(_ value: SpanAttribute, to json: inout JSONWriter) {
    json.beginObject()
    switch value {
    case .int32(let number): json.member("intValue", "\(number)")
    case .int64(let number): json.member("intValue", "\(number)")
    case .bool(let value): json.member("boolValue", value)
    case .double(let number) where number.isFinite:
      json.name("doubleValue")
      json.raw("\(number)")
    case .string(let text): json.member("stringValue", cut(text))
    case .stringConvertible(let value): json.member("stringValue", cut("\(value)"))
    default: json.member("stringValue", cut("\(value)"))
    }
    json.endObject()
  }

  private static func cut(_ text: String) -> String {
    guard text.utf8.count > mostTextBytes else { return text }
    var end = text.utf8.index(text.startIndex, offsetBy: mostTextBytes)
    while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
    return String(text[..<end])
  }
}
