import Metering
import Synchronization
package import Tracing

/// Makes spans of sampled traces, and gives ended spans to an exporter.
///
/// The service that began a trace has decided whether it is sampled. This tracer begins no traces
/// itself.
package struct OTLPTracer: Tracer {
  private let exporter: SpanExporter

  init(_ exporter: SpanExporter) { self.exporter = exporter }

  package func startSpan<Instant: TracerInstant>(
    _ operationName: String, context: @autoclosure () -> ServiceContext, ofKind kind: SpanKind,
    at instant: @autoclosure () -> Instant, function: String, file fileID: String, line: UInt
  ) -> OTLPSpan {
    var context = context()
    let cause = context.trace
    let own =
      context.chosenTrace ?? cause?.child(spanID: .random(in: 1 ... .max)) ?? cause
    context.trace = own
    context.chosenTrace = nil
    guard let own, let cause, own.isSampled else {
      return OTLPSpan(context: context, operationName, record: nil, exporter)
    }
    let record = SpanRecord(
      trace: own, parentSpanID: cause.spanID, name: operationName, kind: kind,
      beganNanoseconds: instant().nanosecondsSinceEpoch)
    return OTLPSpan(context: context, operationName, record: record, exporter)
  }

  /// Spans are sent four times a second, so nothing needs to be flushed.
  package func forceFlush() {}

  package func extract<Carrier, Extract: Extractor>(
    _ carrier: Carrier, into context: inout ServiceContext, using extractor: Extract
  ) where Extract.Carrier == Carrier {
    guard let text = extractor.extract(key: "traceparent", from: carrier) else { return }
    context.trace = TraceContext(text)
  }

  package func inject<Carrier, Inject: Injector>(
    _ context: ServiceContext, into carrier: inout Carrier, using injector: Inject
  ) where Inject.Carrier == Carrier {
    guard let trace = context.trace else { return }
    injector.inject(trace.traceparent, forKey: "traceparent", into: &carrier)
  }
}

/// A span until its end. Values that are set on it after that, or without a record, are dropped.
package final class OTLPSpan: Span {
  package let context: ServiceContext
  private let state: Mutex<State>
  private let exporter: SpanExporter

  private struct State {
    var name: String
    /// Nil if the trace is not sampled, and once the span has ended.
    var record: SpanRecord?
  }

  fileprivate init(
    context: ServiceContext, _ name: String, record: SpanRecord?, _ exporter: SpanExporter
  ) {
    self.context = context
    self.exporter = exporter
    state = Mutex(State(name: name, record: record))
  }

  package var operationName: String {
    get { state.withLock { $0.name } }
    set {
      state.withLock { state in
        state.name = newValue
        state.record?.name = newValue
      }
    }
  }

  package var attributes: SpanAttributes {
    get { state.withLock { $0.record?.attributes ?? [:] } }
    set { state.withLock { $0.record?.attributes = newValue } }
  }

  package var isRecording: Bool { state.withLock { $0.record != nil } }

  package func setStatus(_ status: SpanStatus) { state.withLock { $0.record?.status = status } }

  package func addEvent(_ event: SpanEvent) { state.withLock { $0.record?.add(event) } }

  package func recordError<Instant: TracerInstant>(
    _ error: any Error, attributes: SpanAttributes, at instant: @autoclosure () -> Instant
  ) {
    var attributes = attributes
    attributes["exception.type"] = "\(type(of: error))"
    addEvent(SpanEvent(name: "exception", at: instant(), attributes: attributes))
  }

  /// No span of this project has links.
  package func addLink(_ link: SpanLink) {}

  package func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) {
    let ended = state.withLock { state -> SpanRecord? in
      defer { state.record = nil }
      return state.record
    }
    guard var ended else { return }
    ended.endedNanoseconds = instant().nanosecondsSinceEpoch
    exporter.add(ended)
  }
}
