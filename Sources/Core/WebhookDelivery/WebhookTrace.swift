import Crypto
package import Metering

/// Makes the trace context that goes with a webhook.
package enum WebhookTrace {
  /// An attempt is a span of the trace that led to its alert. The span's id follows from the
  /// attempt, so that pages can show it although it is not stored.
  ///
  /// - Parameter attempt: the number of the attempt, from 1.
  package static func context(
    of cause: TraceContext, webhookID: String, attempt: Int64
  ) -> TraceContext {
    let digest = SHA256.hash(data: Array("\(cause.traceparent)/\(webhookID)/\(attempt)".utf8))
    let spanID = digest.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return cause.child(spanID: max(spanID, 1)) ?? cause
  }
}
