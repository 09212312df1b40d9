import NIOCore
import NIOPosix
import NIOSSL

/// Why the service gave no answer that can be trusted. It never means that a license is invalid.
struct NoAnswer: Error, Sendable, Equatable {
  /// The name of the problem, which is `timeout`, `connection`, `tls`, `pin_mismatch`, `too_large`,
  /// `untrusted`, or a status such as `http_503`.
  var problem: String
  /// Whether another attempt may succeed.
  var isTemporary = false
  /// How long the service asked not to be called.
  var retryAfter = Duration.zero

  static let timeout = NoAnswer(problem: "timeout", isTemporary: true)
  static let connection = NoAnswer(problem: "connection", isTemporary: true)
  static let tls = NoAnswer(problem: "tls")
  static let pinMismatch = NoAnswer(problem: "pin_mismatch")
  static let tooLarge = NoAnswer(problem: "too_large")
  static let untrusted = NoAnswer(problem: "untrusted")

  /// Converts a status that is not an answer.
  static func status(_ status: Int, retryAfter: String?) -> NoAnswer {
    let isTemporary = status == 408 || status == 429 || status >= 500
    // Nobody waits longer than a day. Dates are not read, as in the other SDKs.
    let seconds = retryAfter.flatMap { UInt32($0) }.map { min($0, 86_400) } ?? 0
    return NoAnswer(
      problem: "http_\(status)", isTemporary: isTemporary,
      retryAfter: isTemporary ? .seconds(Int64(seconds)) : .zero)
  }

  init(problem: String, isTemporary: Bool = false, retryAfter: Duration = .zero) {
    self.problem = problem
    self.isTemporary = isTemporary
    self.retryAfter = retryAfter
  }

  /// Converts the error of a connection.
  init(_ error: any Error) {
    switch error {
    case let error as NoAnswer: self = error
    case ChannelError.connectTimeout: self = .timeout
    case let error as NIOConnectionError:
      self =
        error.connectionErrors.contains { Self.isTimeout($0.error) } ? .timeout : .connection
    case let error as NIOSSLExtraError where error == .failedToValidateHostname: self = .tls
    case NIOSSLError.unableToValidateCertificate: self = .tls
    case NIOSSLError.handshakeFailed where "\(error)".contains("CERTIFICATE_VERIFY_FAILED"):
      self = .tls
    default: self = .connection
    }
  }

  private static func isTimeout(_ error: any Error) -> Bool {
    if case ChannelError.connectTimeout = error { true } else { false }
  }
}
