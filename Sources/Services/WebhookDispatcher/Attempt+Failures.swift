import Foundation
import NIOCore
import NIOSSL
import WebhookDelivery

extension Attempt {
  /// This process decided not to begin the attempt, or to stop it.
  struct Refused: Error {
    let failure: Failure
    let detail: String
  }

  /// Describes an error in a few words. Customers read them in their list of attempts, so they name
  /// nothing of the network behind the dispatcher.
  ///
  /// - Parameter limit: milliseconds that the attempt had.
  static func failure(of error: any Error, limit: Int) -> (Failure, String?) {
    switch error {
    case let error as Refused: (error.failure, error.detail)
    case let error as ResolutionFailure: (.dns, error.description)
    case is LookupNeverBegan: (.postponed, "the name was still waiting to be resolved")
    case is CancellationError: (.canceled, nil)
    case let error as ConnectFailure: connectFailure(error.cause, limit: limit)
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError: tlsFailure(error)
    case HTTPAnswerReader.Malformed.endedEarly, is WebhookConnection.ClosedBeforeUse:
      (.closed, "the connection was closed before the answer")
    case let error as HTTPAnswerReader.Malformed: (.protocolError, error.description)
    case is IOError, is ChannelError: (.closed, "the connection was lost before the answer")
    default: (.protocolError, "the answer could not be read")
    }
  }

  private static func connectFailure(_ cause: any Error, limit: Int) -> (Failure, String?) {
    switch cause {
    case is CancellationError: return (.canceled, nil)
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError: return tlsFailure(cause)
    case ChannelError.connectTimeout:
      return (.connect, "no connection was made within \(Double(limit) / 1_000) s")
    case let error as IOError:
      switch error.errnoCode {
      case ECONNREFUSED: return (.connect, "the connection was refused")
      case ECONNRESET: return (.connect, "the connection was reset")
      case ETIMEDOUT: return (.connect, "the connection timed out")
      case EHOSTUNREACH, ENETUNREACH: return (.connect, "the host cannot be reached")
      // The cause is this process: there are no descriptors or ports left.
      case EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL:
        return (.postponed, "this process has no room for another connection")
      default: return (.connect, "the connection could not be made")
      }
    default: return (.connect, "the connection could not be made")
    }
  }

  private static func tlsFailure(_ error: any Error) -> (Failure, String?) {
    if let error = error as? NIOSSLError, case .uncleanShutdown = error {
      return (.closed, "the connection was closed before the answer")
    }
    if let error = error as? NIOSSLExtraError, error == .failedToValidateHostname {
      return (.tls, "the certificate is not for this name")
    }
    return "\(error)".contains("CERTIFICATE_VERIFY_FAILED")
      ? (.tls, "the certificate is not trusted") : (.tls, "the TLS handshake failed")
  }
}
