package import Metering
package import Tracing

/// Begins spans with the tracer of the process.
package enum Spans {
  /// Begins a span that was caused by `cause`. Its own identity is `trace(of:)`.
  ///
  /// - Parameters:
  ///   - own: an identity that was chosen before. Nil lets the tracer choose one.
  ///   - nanoseconds: when it began, in nanoseconds since 1970. Nil means now.
  package static func begin(
    _ name: String, _ kind: SpanKind, cause: TraceContext, as own: TraceContext? = nil,
    at nanoseconds: UInt64? = nil
  ) -> any Span {
    var context = ServiceContext.topLevel
    context.trace = cause
    context.chosenTrace = own
    let tracer: any Tracer = InstrumentationSystem.tracer
    guard let nanoseconds else { return tracer.startSpan(name, context: context, ofKind: kind) }
    return tracer.startSpan(
      name, context: context, ofKind: kind,
      at: DefaultTracerClock.Timestamp(nanosecondsSinceEpoch: nanoseconds))
  }

  /// The context that a span passes on. Without a tracer it is the context that the span was begun
  /// with.
  package static func trace(of span: any Span) -> TraceContext? { span.context.trace }
}

private enum TraceKey: ServiceContextKey { typealias Value = TraceContext }
private enum ChosenTraceKey: ServiceContextKey { typealias Value = TraceContext }

extension ServiceContext {
  /// The trace of this context.
  var trace: TraceContext? {
    get { self[TraceKey.self] }
    set { self[TraceKey.self] = newValue }
  }

  /// The identity for the span that is begun next.
  var chosenTrace: TraceContext? {
    get { self[ChosenTraceKey.self] }
    set { self[ChosenTraceKey.self] = newValue }
  }
}
