import Foundation
package import Metering
import NIOCore
import NIOPosix
package import NIOSSL
import PostgresStore
import ServiceRuntime
import Synchronization
package import WebhookDelivery

/// What one attempt came to.
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
    /// It could not begin, for a cause that is not the receiver's; it is no attempt.
    case postponed = "postponed"
  }

  package var statusCode: Int?
  package var failure: Failure?
  package var detail: String?
  /// The first KiB of the answer.
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

  /// Whether anything may have reached the receiver: only that is written down as an attempt.
  package var isAttempt: Bool {
    switch failure {
    case .canceled, .postponed, .secret: false
    default: true
    }
  }

  /// `word: words`, or nil.
  package var error: String? {
    failure.map { failure in detail.map { "\(failure.rawValue): \($0)" } ?? failure.rawValue }
  }
}

/// What is to be sent.
package struct Message: Sendable {
  package var endpoint: String
  package var webhookID: String
  package var url: String
  package var sealedSecrets: [[UInt8]]
  package var body: [UInt8]
  /// Failures so far: which of a name's addresses is tried.
  package var retryStep: Int
  /// The trace of the attempt, whose span id is the attempt's own.
  package var trace: TraceContext?

  package init(
    endpoint: String, webhookID: String, url: String, sealedSecrets: [[UInt8]], body: [UInt8],
    retryStep: Int, trace: TraceContext? = nil
  ) {
    self.endpoint = endpoint
    self.webhookID = webhookID
    self.url = url
    self.sealedSecrets = sealedSecrets
    self.body = body
    self.retryStep = retryStep
    self.trace = trace
  }
}

/// Makes one attempt: checks, resolves, pins, signs, posts, reads a little of the answer.
///
/// - The name is resolved once, every address of the answer is checked, and the connection goes to one of them.
/// - Redirects are not followed, and nothing is decompressed. `HTTPAnswerReader` bounds what is read.
/// - All of it together ends at the time limit, whatever the other side does.
package final class Sender: Sendable {
  package struct Settings: Sendable {
    package var policy = TargetAddressPolicy()
    package var allowsHTTP = false
    package var timeoutMilliseconds = 15_000
    package var trustRoots: [NIOSSLCertificate] = []
    /// Kept open between requests, all endpoints together.
    package var maximumIdleConnections = 1_024

    package init() {}
  }

  private static let maximumKeptSecrets = 10_000

  private let settings: Settings
  private let resolver: any NameResolver
  private let box: SecretBox
  private let connections: PinnedConnections
  private let group: MultiThreadedEventLoopGroup
  /// Opened secrets by endpoint and ciphertext.
  private let secrets = Mutex<[String: (sealed: [[UInt8]], open: [SigningSecret])]>([:])

  package init(settings: Settings, box: SecretBox, resolver: any NameResolver) {
    self.settings = settings
    self.box = box
    self.resolver = resolver
    group = MultiThreadedEventLoopGroup.singleton
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.minimumTLSVersion = .tlsv12
    tls.applicationProtocols = ["http/1.1"]
    // A peer that does not answer the end of TLS holds a descriptor for so long.
    tls.shutdownTimeout = .seconds(1)
    if !settings.trustRoots.isEmpty {
      tls.additionalTrustRoots = [.certificates(settings.trustRoots)]
    }
    connections = PinnedConnections(
      group: group, tls: tls, timeoutMilliseconds: settings.timeoutMilliseconds,
      maximumIdle: settings.maximumIdleConnections)
  }

  package func closeIdle() async { connections.forgetClosed() }
  package func close() async { connections.closeAll() }

  /// Never throws: what goes wrong is the attempt's failure.
  package func attempt(_ message: Message) async -> Attempt {
    let began = Int64(Monotonic.milliseconds)
    let limit = settings.timeoutMilliseconds
    let progress = Progress()
    let work = Task { try await exchange(message, progress) }
    let timer = group.any().scheduleTask(in: .milliseconds(Int64(limit))) {
      progress.timedOut.store(true, ordering: .relaxed)
      work.cancel()
    }
    let result = await withTaskCancellationHandler {
      await work.result
    } onCancel: {
      work.cancel()
    }
    timer.cancel()
    var attempt = progress.attempt.withLock { $0 }
    if case .failure(let error) = result {
      let isSuccess = attempt.statusCode.map { (200..<300).contains($0) } ?? false
      // The receiver has said yes; that its answer's body never ends changes nothing.
      if !isSuccess {
        let stage = progress.stage.withLock { $0 }
        if progress.timedOut.load(ordering: .relaxed), !(error is LookupNeverBegan) {
          (attempt.failure, attempt.detail) = (.timeout, stage.timeoutText(limit: limit))
        } else {
          (attempt.failure, attempt.detail) = Self.failure(error, limit: limit)
        }
      }
    }
    if attempt.failure == nil, let status = attempt.statusCode, !(200..<300).contains(status) {
      attempt.failure = .status
      attempt.detail = (300..<400).contains(status) ? "redirects are not followed" : nil
    }
    attempt.durationMilliseconds = Int64(Monotonic.milliseconds) - began
    return attempt
  }

  private func exchange(_ message: Message, _ progress: Progress) async throws {
    let url: WebhookURL
    do throws(WebhookURL.Refusal) {
      url = try WebhookURL(
        message.url, policy: settings.policy, allowsHTTP: settings.allowsHTTP)
    } catch {
      if case .address = error { throw Refused(failure: .address, detail: "\(error)") }
      throw Refused(failure: .url, detail: "\(error)")
    }
    let secrets = try open(message)
    let address = try await pin(url, message)
    progress.stage.withLock { $0 = .connecting }
    let target = PinnedConnections.Target(
      isTLS: url.isTLS, serverName: url.address == nil ? url.host : nil, address: address,
      port: url.port)
    let now = WallClock.milliseconds
    try await connections.exchange(target, request: Self.request(message, url, secrets, now)) {
      answer in
      progress.attempt.withLock {
        $0.statusCode = answer.status
        $0.response = answer.kept
        $0.retryAfterMilliseconds = answer.retryAfter.flatMap {
          RetryAfter.milliseconds($0, nowMilliseconds: WallClock.milliseconds)
        }
      }
    }
  }

  /// Path and query are sent as they were accepted, byte for byte.
  private static func request(
    _ message: Message, _ url: WebhookURL, _ secrets: [SigningSecret], _ milliseconds: Int64
  ) -> [UInt8] {
    let timestamp = milliseconds / 1_000
    let signature = WebhookSignature.header(
      id: message.webhookID, timestampSeconds: timestamp, body: message.body, secrets: secrets)
    let trace = message.trace.map { "traceparent: \($0.traceparent)\r\n" } ?? ""
    let head = """
      POST \(url.pathAndQuery) HTTP/1.1\r
      host: \(url.authority)\r
      content-type: application/json\r
      content-length: \(message.body.count)\r
      accept: */*\r
      user-agent: license-metering-webhooks/1\r
      webhook-id: \(message.webhookID)\r
      webhook-timestamp: \(timestamp)\r
      webhook-signature: \(signature)\r
      \(trace)\r\n
      """
    return Array(head.utf8) + message.body
  }

  /// What is known of an attempt so far: it may be ended at any moment.
  private final class Progress: Sendable {
    let attempt = Mutex(Attempt(beganMilliseconds: WallClock.milliseconds))
    let stage = Mutex(Stage.resolving)
    let timedOut = Atomic<Bool>(false)
  }

  private enum Stage {
    case resolving
    case connecting

    func timeoutText(limit: Int) -> String {
      let seconds = "\(Double(limit) / 1_000) s"
      return switch self {
      case .resolving: "the name was not resolved within \(seconds)"
      case .connecting: "no whole answer came within \(seconds)"
      }
    }
  }

  private struct Refused: Error {
    let failure: Attempt.Failure
    let detail: String
  }

  private func pin(_ url: WebhookURL, _ message: Message) async throws -> IPAddress {
    if let address = url.address { return address }
    let addresses = try await resolver.addresses(of: url.host)
    if let (address, reason) = settings.policy.refusal(ofAny: addresses) {
      // The address itself is the operator's to know: names may lead into the operator's network.
      let kind = address.isV6 ? "IPv6" : "IPv4"
      throw Refused(
        failure: .address, detail: "the name has an \(kind) address that is refused: \(reason)")
    }
    guard !addresses.isEmpty else {
      throw ResolutionFailure(description: "the name has no address")
    }
    return addresses[message.retryStep % addresses.count]
  }

  private func open(_ message: Message) throws -> [SigningSecret] {
    if let known = secrets.withLock({ $0[message.endpoint] }),
      known.sealed == message.sealedSecrets
    {
      return known.open
    }
    guard !message.sealedSecrets.isEmpty else {
      throw Refused(failure: .secret, detail: "the endpoint has no secret")
    }
    do {
      let open = try message.sealedSecrets.map { try box.open($0, endpoint: message.endpoint) }
      secrets.withLock { secrets in
        if secrets.count >= Self.maximumKeptSecrets { secrets.removeAll() }
        secrets[message.endpoint] = (message.sealedSecrets, open)
      }
      return open
    } catch {
      throw Refused(failure: .secret, detail: "\(error)")
    }
  }

  /// In few words: what customers read in their list of attempts names nothing of the network
  /// behind it.
  private static func failure(
    _ error: any Error, limit: Int
  ) -> (Attempt.Failure, String?) {
    switch error {
    case let error as Refused: (error.failure, error.detail)
    case let error as ResolutionFailure: (.dns, error.description)
    case is LookupNeverBegan: (.postponed, "the name's turn to be resolved did not come")
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

  private static func connectFailure(_ cause: any Error, limit: Int) -> (Attempt.Failure, String?) {
    switch cause {
    case is CancellationError: return (.canceled, nil)
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError: return tlsFailure(cause)
    case ChannelError.connectTimeout:
      return (.connect, "no connection within \(Double(limit) / 1_000) s")
    case let error as IOError:
      switch error.errnoCode {
      case ECONNREFUSED: return (.connect, "the connection was refused")
      case ECONNRESET: return (.connect, "the connection was reset")
      case ETIMEDOUT: return (.connect, "the connection timed out")
      case EHOSTUNREACH, ENETUNREACH: return (.connect, "the host cannot be reached")
      // Ours, not the receiver's: there are no descriptors or ports left.
      case EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL:
        return (.postponed, "this process has no room for another connection")
      default: return (.connect, "the connection could not be made")
      }
    default: return (.connect, "the connection could not be made")
    }
  }

  private static func tlsFailure(_ error: any Error) -> (Attempt.Failure, String?) {
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
