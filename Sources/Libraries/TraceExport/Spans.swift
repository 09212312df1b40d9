package import Metering
package import Tracing

/// Spans as the services begin them, of whatever tracer the process has.
package enum Spans {
  /// Begins a span that `cause` has led to. Its own identity is `trace(of:)`.
  ///
  /// - Parameters:
  ///   - own: an identity that was chosen already. Nil lets the tracer choose one.
  ///   - nanoseconds: since 1970, when it began. Nil means now.
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

  /// What a span hands on to what it leads to. Without a tracer that is what it was begun with.
  package static func trace(of span: any Span) -> TraceContext? { span.context.trace }
}

private enum TraceKey: ServiceContextKey { typealias Value = TraceContext }
private enum ChosenTraceKey: ServiceContextKey { typealias Value = TraceContext }

extension ServiceContext {
  /// The span that what happens in this context belongs to.
  var trace: TraceContext? {
    get { self[TraceKey.self] }
    set { self[TraceKey.self] = newValue }
  }

  /// The identity of the span that is begun next.
  var chosenTrace: TraceContext? {
    get { self[ChosenTraceKey.self] }
    set { self[ChosenTraceKey.self] = newValue }
  }
}
