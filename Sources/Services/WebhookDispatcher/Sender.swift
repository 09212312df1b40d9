import AsyncHTTPClient
import Foundation
import Metering
import NIOCore
import NIOHTTP1
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
    return statusCode == 410 ? .gone : .failure
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

  package init(
    endpoint: String, webhookID: String, url: String, sealedSecrets: [[UInt8]], body: [UInt8],
    retryStep: Int
  ) {
    self.endpoint = endpoint
    self.webhookID = webhookID
    self.url = url
    self.sealedSecrets = sealedSecrets
    self.body = body
    self.retryStep = retryStep
  }
}

/// Makes one attempt: checks, resolves, pins, signs, posts, reads a little of the answer.
///
/// - The name is resolved once, every address of the answer is checked, and the connection goes to one of them.
/// - Redirects are not followed, nothing is decompressed, 16 KiB of the answer are read, then the connection is dropped. Headers are
///   bounded by SwiftNIO at 80 KiB.
/// - All of it together ends at the time limit, whatever the other side does.
package final class Sender: Sendable {
  package struct Settings: Sendable {
    package var policy = TargetAddressPolicy()
    package var allowsHTTP = false
    package var timeoutMilliseconds = 15_000
    package var trustRoots: [NIOSSLCertificate] = []

    package init() {}
  }

  static let maximumResponseBytes = 16_384
  static let keptResponseBytes = 1_024
  private static let maximumKeptSecrets = 10_000

  private let settings: Settings
  private let resolver: any NameResolver
  private let box: SecretBox
  private let clients: PinnedClients
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
    if !settings.trustRoots.isEmpty {
      tls.additionalTrustRoots = [.certificates(settings.trustRoots)]
    }
    clients = PinnedClients(
      group: group, tls: tls, timeoutMilliseconds: settings.timeoutMilliseconds)
  }

  package func closeIdle() async { await clients.closeIdle() }
  package func close() async { await clients.closeAll() }

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
      let timedOut = progress.timedOut.load(ordering: .relaxed)
      let isSuccess = attempt.statusCode.map { (200..<300).contains($0) } ?? false
      // The receiver has said yes; that its answer's body never ends changes nothing.
      if !isSuccess {
        (attempt.failure, attempt.detail) = Self.failure(
          error, timedOut: timedOut, limit: limit)
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
    let timestamp = WallClock.milliseconds / 1_000
    var request = HTTPClientRequest(url: "\(url)")
    request.method = .POST
    request.headers = [
      "content-type": "application/json", "user-agent": "license-metering-webhooks/1",
      "webhook-id": message.webhookID, "webhook-timestamp": String(timestamp),
      "webhook-signature": WebhookSignature.header(
        id: message.webhookID, timestampSeconds: timestamp, body: message.body, secrets: secrets),
    ]
    request.body = .bytes(ByteBuffer(bytes: message.body))
    let sent = request
    let limit = settings.timeoutMilliseconds
    let exchanged = try await clients.withClient(host: url.host, address: address) { client in
      let response = try await client.execute(
        sent, deadline: .now() + .milliseconds(Int64(limit)))
      return response
    }
    progress.attempt.withLock {
      $0.statusCode = Int(exchanged.status.code)
      $0.retryAfterMilliseconds = exchanged.headers.first(name: "retry-after").flatMap {
        RetryAfter.milliseconds($0, nowMilliseconds: WallClock.milliseconds)
      }
    }
    var read = 0
    for try await part in exchanged.body {
      read += part.readableBytes
      progress.attempt.withLock {
        let room = Self.keptResponseBytes - $0.response.count
        if room > 0 { $0.response.append(contentsOf: part.readableBytesView.prefix(room)) }
      }
      if read >= Self.maximumResponseBytes { break }
    }
  }

  /// What is known of an attempt so far: it may be ended at any moment.
  private final class Progress: Sendable {
    let attempt = Mutex(Attempt(beganMilliseconds: WallClock.milliseconds))
    let timedOut = Atomic<Bool>(false)
  }

  private struct Refused: Error {
    let failure: Attempt.Failure
    let detail: String
  }

  private func pin(_ url: WebhookURL, _ message: Message) async throws -> IPAddress {
    if let address = url.address { return address }
    let addresses = try await resolver.addresses(of: url.host)
    if let (address, reason) = settings.policy.refusal(ofAny: addresses) {
      throw Refused(failure: .address, detail: "\(url.host) is \(address): \(reason)")
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

  /// In few words: what customers read in their list of attempts names nothing of the network behind it.
  private static func failure(
    _ error: any Error, timedOut: Bool, limit: Int
  ) -> (Attempt.Failure, String?) {
    if let refused = error as? Refused { return (refused.failure, refused.detail) }
    if timedOut { return (.timeout, "no whole answer within \(Double(limit) / 1_000) s") }
    switch error {
    case let error as ResolutionFailure: return (.dns, error.description)
    case is CancellationError: return (.canceled, nil)
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError: return (.tls, brief(error))
    case is NIOConnectionError, is IOError: return (.connect, brief(error))
    case let error as HTTPClientError where error == .deadlineExceeded:
      return (.timeout, "no answer within \(Double(limit) / 1_000) s")
    case let error as HTTPClientError where error == .connectTimeout:
      return (.connect, "no connection within \(Double(limit) / 1_000) s")
    case let error as HTTPClientError where error == .cancelled: return (.canceled, nil)
    case let error as HTTPClientError where error == .remoteConnectionClosed:
      return (.closed, "the connection was closed before the answer")
    case let error as HTTPParserError where error == .invalidEOFState:
      return (.closed, "the connection was closed in mid-answer")
    case is HTTPParserError: return (.protocolError, brief(error))
    default: return (.protocolError, brief(error))
    }
  }

  private static func brief(_ error: any Error) -> String {
    let text = (error as? IOError)?.description ?? "\(error)"
    return String(text.prefix(200)).replacingOccurrences(of: "\n", with: " ")
  }
}
