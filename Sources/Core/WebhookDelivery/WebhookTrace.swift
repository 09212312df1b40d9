import Crypto
package import Metering

/// The trace that goes with a webhook.
package enum WebhookTrace {
  /// An attempt is a span of the trace that led to its alert. The span's id follows from the attempt,
  /// so that pages can show what was sent though nobody has written it down.
  ///
  /// - Parameter attempt: 1 is the first.
  package static func context(
    of cause: TraceContext, webhookID: String, attempt: Int64
  ) -> TraceContext {
    let digest = SHA256.hash(data: Array("\(cause.traceparent)/\(webhookID)/\(attempt)".utf8))
    let spanID = digest.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return cause.child(spanID: max(spanID, 1)) ?? cause
  }
}
