import Metering
import PostgresStore
import TraceExport
import Tracing

/// The span of one attempt to deliver a webhook. The receiver gets its id in `traceparent`.
struct AttemptSpan {
  private let span: any Span
  private let claim: WebhookStore.Claim

  init(_ claim: WebhookStore.Claim, as own: TraceContext) {
    self.claim = claim
    span = Spans.begin("POST webhook", .client, cause: claim.trace ?? own, as: own)
  }

  /// A span that never ends is not exported. A claim that was given back was no attempt.
  func end(_ attempt: Attempt) {
    guard span.isRecording else { return }
    var attributes: SpanAttributes = [
      "http.request.method": "POST", "license_metering.webhook_id": .string(claim.webhookID),
      "license_metering.endpoint_id": .string(claim.endpoint),
      "license_metering.attempt": .int64(claim.attempts + 1),
    ]
    if let status = attempt.statusCode {
      attributes["http.response.status_code"] = SpanAttribute.int64(Int64(status))
    }
    if let failure = attempt.failure {
      attributes["error.type"] = SpanAttribute.string(failure.rawValue)
      span.setStatus(SpanStatus(code: .error, message: attempt.error))
    }
    span.attributes = attributes
    span.end()
  }
}
