import JSONText
import Logging
import Metering
import MeteringTestKit
import ServiceLifecycle
import ServiceRuntime
import Testing
import Tracing

@testable import TraceExport

/// Spans, from their beginning to the collector.
@Suite struct SpanExportTests {
  private static let cause = TraceContext(
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

  private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  private func exporter(
    port: Int, registry: MetricsRegistry = MetricsRegistry(), queueSpans: Int = 1_000
  ) -> SpanExporter {
    SpanExporter(
      settings: SpanExporter.Settings(
        endpoint: "http://127.0.0.1:\(port)", headers: [("x-token", "secret")],
        intervalMilliseconds: 10, queueSpans: queueSpans, batchSpans: 10),
      resource: SpanRecord.Resource(service: "a-service", version: "1.2", instance: "i"),
      metrics: registry, logger: Self.logger)
  }

  /// Runs the exporter until `body` has ended, and then its farewell.
  private func running(
    _ exporter: SpanExporter, _ body: @escaping @Sendable () throws -> Void
  ) async throws {
    let group = ServiceGroup(services: [exporter], logger: Self.logger)
    async let run: Void = group.run()
    do {
      try await Task { try body() }.value
    } catch {
      await group.triggerGracefulShutdown()
      try await run
      throw error
    }
    await group.triggerGracefulShutdown()
    try await run
  }

  private func span(
    _ exporter: SpanExporter, _ cause: TraceContext, as own: TraceContext? = nil,
    name: String = "work"
  ) -> OTLPSpan {
    var context = ServiceContext.topLevel
    context.trace = cause
    context.chosenTrace = own
    return OTLPTracer(exporter).startSpan(
      name, context: context, ofKind: .server,
      at: DefaultTracerClock.Timestamp(nanosecondsSinceEpoch: 1_795_459_200_000_000_000))
  }

  @Test
  func `Only spans of sampled traces reach the collector, in the form that OTLP requires`()
    async throws
  {
    let cause = try #require(Self.cause)
    let own = try #require(cause.child(spanID: 0x1122_3344_5566_7788))
    let collector = try Collector()
    let exporter = exporter(port: collector.port)
    try await running(exporter) {
      let span = span(exporter, cause, as: own)
      #expect(span.context.trace == own)
      span.attributes["text"] = "a\"b"
      span.attributes["number"] = 7
      span.attributes["long"] = SpanAttribute.string(String(repeating: "é", count: 2_000))
      span.addEvent(SpanEvent(name: "happened"))
      span.setStatus(SpanStatus(code: .error, message: "broke"))
      span.end()
      // Changes after the end have no effect, and a second end reports nothing.
      span.attributes["late"] = "x"
      span.end()
      let quiet = TraceContext(
        traceHigh: cause.traceHigh, traceLow: cause.traceLow, spanID: cause.spanID, flags: 0)
      let silent = self.span(exporter, try #require(quiet))
      #expect(!silent.isRecording && silent.context.trace?.traceIDText == cause.traceIDText)
      silent.end()
      _ = self.span(exporter, cause)
      try eventually("the collector has it") { !collector.received.isEmpty }
    }
    #expect(collector.received.count == 1)
    let request = try #require(collector.received.first)
    #expect(request.head.hasPrefix("POST /v1/traces HTTP/1.1\r\n"))
    #expect(request.head.lowercased().contains("content-type: application/json"))
    #expect(request.head.lowercased().contains("x-token: secret"))
    let json = try JSONReader.parse(request.body)
    let sent = try #require(json.members?["resourceSpans"]?.elements?.first?.members)
    let resource = sent["resource"]?.members?["attributes"]?.elements ?? []
    #expect(
      resource.contains {
        $0.members?["key"]?.text == "service.name"
          && $0.members?["value"]?.members?["stringValue"]?.text == "a-service"
      })
    let spans = sent["scopeSpans"]?.elements?.first?.members?["spans"]?.elements ?? []
    #expect(spans.count == 1)
    let told = try #require(spans.first?.members)
    #expect(told["traceId"]?.text == cause.traceIDText)
    #expect(told["spanId"]?.text == "1122334455667788")
    #expect(told["parentSpanId"]?.text == cause.spanIDText)
    #expect(told["name"]?.text == "work" && told["kind"]?.integer == 2)
    #expect(told["startTimeUnixNano"]?.text == "1795459200000000000")
    #expect(told["status"]?.members?["code"]?.integer == 2)
    #expect(told["status"]?.members?["message"]?.text == "broke")
    #expect(told["events"]?.elements?.first?.members?["name"]?.text == "happened")
    var values: [String: String] = [:]
    for attribute in told["attributes"]?.elements ?? [] {
      let value = attribute.members?["value"]?.members
      values[attribute.members?["key"]?.text ?? ""] =
        value?["stringValue"]?.text ?? value?["intValue"]?.text
    }
    #expect(values["text"] == "a\"b" && values["number"] == "7" && values["late"] == nil)
    #expect(values["long"] == String(repeating: "é", count: 512))
  }

  @Test
  func `What a collector may take later is sent again, and what it refuses is dropped and counted`()
    async throws
  {
    let cause = try #require(Self.cause)
    let collector = try Collector([503, 200, 400, 200])
    let registry = MetricsRegistry()
    let exporter = exporter(port: collector.port, registry: registry)
    try await running(exporter) {
      span(exporter, cause, name: "first").end()
      try eventually("it is sent twice") { collector.received.count == 2 }
      span(exporter, cause, name: "refused").end()
      try eventually("it is refused") { collector.received.count == 3 }
      // The spans that end last are sent while the service stops.
      span(exporter, cause, name: "last").end()
    }
    let bodies = collector.received.map { String(decoding: $0.body, as: UTF8.self) }
    #expect(bodies.count == 4 && bodies[0] == bodies[1])
    #expect(bodies[0].contains("first") && bodies[2].contains("refused"))
    #expect(bodies.last?.contains("last") == true)
    let page = registry.render()
    #expect(page.contains("meter_spans_exported_total 2\n"))
    #expect(page.contains("meter_spans_dropped_total{cause=\"refused\"} 1\n"))
    #expect(page.contains("meter_spans_dropped_total{cause=\"queue_full\"} 0\n"))
  }

  @Test
  func `Nobody waits for a collector that is away: what does not fit is dropped and counted`()
    async throws
  {
    let cause = try #require(Self.cause)
    let registry = MetricsRegistry()
    let exporter = exporter(port: try FreePort.next(), registry: registry, queueSpans: 25)
    try await running(exporter) {
      for _ in 0..<100 { span(exporter, cause).end() }
    }
    let page = registry.render()
    #expect(page.contains("meter_spans_exported_total 0\n"))
    let dropped = page.split(separator: "\n")
      .first { $0.hasPrefix("meter_spans_dropped_total{cause=\"queue_full\"} ") }
      .flatMap { Int($0.split(separator: " ")[1]) }
    #expect((dropped ?? 0) >= 65, "\(page)")
  }

  @Test
  func `An address or a header of the collector that cannot work is refused`() throws {
    #expect(try SpanExport.address("http://localhost:4318/") == "http://localhost:4318")
    #expect(try SpanExport.address("https://otlp.example/x") == "https://otlp.example/x")
    for text in ["localhost:4318", "grpc://a:4317", "http://", "http://a?b", "http://u@a", ""] {
      #expect(throws: ConfigurationError.self, "\(text)") { try SpanExport.address(text) }
    }
    let headers = try SpanExport.headers("a=b, Authorization=Bearer%20x%2Cy=")
    #expect(headers.map(\.name) == ["a", "Authorization"])
    #expect(headers.map(\.value) == ["b", "Bearer x,y="])
    #expect(try SpanExport.headers(nil).isEmpty)
    for text in ["a", "=b", "a b=c", "a=%0d%0aX:y", "a=é", "a=%zz"] {
      #expect(throws: ConfigurationError.self, "\(text)") { try SpanExport.headers(text) }
    }
  }
}
