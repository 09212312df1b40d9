package import WebhookDelivery

/// The result of one attempt.
package struct Attempt: Sendable {
  package enum Failure: String, Sendable, CaseIterable {
    case url = "invalid_url"
    case secret = "secret"
    case dns = "dns"
    case address = "refused_address"
    case connect = "connect"
    case tls = "tls"
    case timeout = "timeout"
    case closed = "closed"
    case protocolError = "protocol"
    case status = "status"
    case canceled = "canceled"
    /// It could not begin, and the receiver is not the cause. It does not count as an attempt.
    case postponed = "postponed"
  }

  package var statusCode: Int?
  package var failure: Failure?
  package var detail: String?
  /// The first KiB of the answer's body.
  package var response: [UInt8] = []
  package var retryAfterMilliseconds: Int64?
  package var beganMilliseconds: Int64
  package var durationMilliseconds: Int64 = 0

  package var outcome: EndpointHealth.Outcome {
    if failure == nil { return .success }
    return switch (statusCode, retryAfterMilliseconds) {
    case (410, _): .gone
    case (429, let wait?), (503, let wait?): .paused(milliseconds: wait)
    default: .failure
    }
  }

  /// Whether anything may have reached the receiver. Only then is the attempt written down.
  package var isAttempt: Bool {
    switch failure {
    case .canceled, .postponed, .secret: false
    default: true
    }
  }

  /// For example `dns: the name has no address`; nil after a success.
  package var error: String? {
    failure.map { failure in detail.map { "\(failure.rawValue): \($0)" } ?? failure.rawValue }
  }
}
