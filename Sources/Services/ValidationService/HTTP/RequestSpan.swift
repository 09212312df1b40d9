import Dispatch
import Metering
import TraceExport
import Tracing

/// The span of a request that brought a trace. It begins with the request's last byte. A span that
/// never ends, because the request is repeated internally or refused, is not exported.
struct RequestSpan {
  private let span: any Span
  private let path: String

  /// Nil if the request brought no valid trace.
  init?(_ request: APIRequest) {
    guard let text = request.fields.traceparent, let cause = TraceContext(text) else { return nil }
    let elapsed = DispatchTime.now().uptimeNanoseconds - request.received
    path = request.path
    span = Spans.begin(
      "POST \(path)", .server, cause: cause,
      at: DefaultTracerClock.now.nanosecondsSinceEpoch - elapsed)
  }

  /// The trace for the request's events.
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
