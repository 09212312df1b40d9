import Dispatch
import Metering
import TraceExport
import Tracing

/// The span of a request that brought a trace, from its last byte on. One that never ends, because
/// the request is asked again or refused, is never told.
struct RequestSpan {
  private let span: any Span
  private let path: String

  /// Nil where the request brought no trace, or something that is none.
  init?(_ request: APIRequest) {
    guard let text = request.fields.traceparent, let cause = TraceContext(text) else { return nil }
    let elapsed = DispatchTime.now().uptimeNanoseconds - request.received
    path = request.path
    span = Spans.begin(
      "POST \(path)", .server, cause: cause,
      at: DefaultTracerClock.now.nanosecondsSinceEpoch - elapsed)
  }

  /// What the request's events carry.
  var traceparent: String? { Spans.trace(of: span)?.traceparent }

  func end(status: Int64, _ describe: (inout SpanAttributes) -> Void) {
    guard span.isRecording else { return }
    var attributes: SpanAttributes = [
      "http.request.method": "POST", "http.route": .string(path),
      "http.response.status_code": .int64(status),
    ]
    describe(&attributes)
    span.attributes = attributes
    span.end()
  }
}
