import Foundation
package import Metering
import NIOCore
import NIOPosix
package import NIOSSL
import PostgresStore
import ServiceRuntime
import Synchronization
package import WebhookDelivery

/// One webhook to be sent to one endpoint.
package struct WebhookMessage: Sendable {
  package var endpoint: String
  package var webhookID: String
  package var url: String
  package var sealedSecrets: [[UInt8]]
  package var body: [UInt8]
  /// The number of failures so far. It chooses which of the name's addresses is tried.
  package var retryStep: Int
  /// The trace of the attempt, with the attempt's own span id.
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

/// Makes attempts: checks the target, resolves its name, pins the address, signs and posts the
/// body, and reads the beginning of the answer.
///
/// - The name is resolved once, and every address of the answer is checked. The connection goes to
///   one of them.
/// - Redirects are not followed and nothing is decompressed. `HTTPAnswerReader` bounds what is
///   read.
/// - An attempt ends at the time limit, whatever the other side does.
package final class WebhookClient: Sendable {
  package struct Settings: Sendable {
    package var policy = TargetAddressPolicy()
    package var allowsHTTP = false
    package var timeoutMilliseconds = 15_000
    package var trustRoots: [NIOSSLCertificate] = []
    /// The most connections that are kept open between requests, for all endpoints together.
    package var maximumIdleConnections = 1_024

    package init() {}
  }

  private static let maximumKeptSecrets = 10_000

  private let settings: Settings
  private let resolver: any NameResolver
  private let box: SecretBox
  private let connections: PinnedConnections
  private let group: MultiThreadedEventLoopGroup
  /// The opened secrets of each endpoint, beside the ciphertexts that they came from.
  private let secrets = Mutex<[String: (sealed: [[UInt8]], open: [SigningSecret])]>([:])

  package init(settings: Settings, box: SecretBox, resolver: any NameResolver) {
    self.settings = settings
    self.box = box
    self.resolver = resolver
    group = MultiThreadedEventLoopGroup.singleton
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.minimumTLSVersion = .tlsv12
    tls.applicationProtocols = ["http/1.1"]
    // How long a connection whose peer ignores the end of TLS may hold a descriptor.
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

  /// Never throws. An error becomes the attempt's failure.
  package func attempt(_ message: WebhookMessage) async -> Attempt {
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
      // The receiver has accepted the webhook. A body that never ends does not change that.
      if !isSuccess {
        let stage = progress.stage.withLock { $0 }
        if progress.timedOut.load(ordering: .relaxed), !(error is LookupNeverBegan) {
          (attempt.failure, attempt.detail) = (.timeout, stage.timeoutText(limit: limit))
        } else {
          (attempt.failure, attempt.detail) = Attempt.failure(of: error, limit: limit)
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

  private func exchange(_ message: WebhookMessage, _ progress: Progress) async throws {
    let url: WebhookURL
    do throws(WebhookURL.Refusal) {
      url = try WebhookURL(
        message.url, policy: settings.policy, allowsHTTP: settings.allowsHTTP)
    } catch {
      if case .address = error { throw Attempt.Refused(failure: .address, detail: "\(error)") }
      throw Attempt.Refused(failure: .url, detail: "\(error)")
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

  /// The path and the query are sent byte for byte as they were accepted.
  private static func request(
    _ message: WebhookMessage, _ url: WebhookURL, _ secrets: [SigningSecret], _ milliseconds: Int64
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

  /// What is known of an attempt so far. The attempt may be ended at any moment.
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
      case .connecting: "no complete answer came within \(seconds)"
      }
    }
  }

  private func pin(_ url: WebhookURL, _ message: WebhookMessage) async throws -> IPAddress {
    if let address = url.address { return address }
    let addresses = try await resolver.addresses(of: url.host)
    if let (address, reason) = settings.policy.refusal(ofAny: addresses) {
      // Only the operator may see the address, because a name can point into the operator's
      // network.
      let kind = address.isV6 ? "IPv6" : "IPv4"
      throw Attempt.Refused(
        failure: .address, detail: "the name has an \(kind) address that is refused: \(reason)")
    }
    guard !addresses.isEmpty else {
      throw ResolutionFailure(description: "the name has no address")
    }
    return addresses[message.retryStep % addresses.count]
  }

  private func open(_ message: WebhookMessage) throws -> [SigningSecret] {
    if let known = secrets.withLock({ $0[message.endpoint] }),
      known.sealed == message.sealedSecrets
    {
      return known.open
    }
    guard !message.sealedSecrets.isEmpty else {
      throw Attempt.Refused(failure: .secret, detail: "the endpoint has no secret")
    }
    do {
      let open = try message.sealedSecrets.map { try box.open($0, endpoint: message.endpoint) }
      secrets.withLock { secrets in
        if secrets.count >= Self.maximumKeptSecrets { secrets.removeAll() }
        secrets[message.endpoint] = (message.sealedSecrets, open)
      }
      return open
    } catch {
      throw Attempt.Refused(failure: .secret, detail: "\(error)")
    }
  }
}
