import Billing
import Metering
import NIOCore
import NIOPosix
package import NIOSSL
import ServiceRuntime
import Synchronization
import WebhookDelivery

/// Sends requests to Stripe over connections that it keeps.
package final class StripeClient: Sendable {
  /// The answer to a request.
  struct Answer: Sendable {
    var status: Int
    var body: [UInt8]
    var shouldRetry: String?
    var retryAfterMilliseconds: Int64?
  }

  struct Unreachable: Error, CustomStringConvertible {
    let description: String
  }

  let settings: StripeSettings
  private let idle = Mutex<[StripeConnection]>([])
  private let tls: Result<NIOSSLContext, any Error>
  private let patience: TimeAmount
  let paceMilliseconds: Int64

  /// The version of Stripe's API that the requests are written for.
  private static let version = "2025-03-31.basil"
  private static let mostIdle = 32

  /// - Parameters:
  ///   - trustRoots: the certificate authorities to trust. Nil stands for the system's.
  ///   - patienceMilliseconds: how long one answer may take.
  ///   - paceMilliseconds: the first pause after a failed attempt (see `StripeBackoff`).
  package init(
    _ settings: StripeSettings, trustRoots: NIOSSLTrustRoots? = nil,
    patienceMilliseconds: Int64 = 30_000,
    paceMilliseconds: Int64 = StripeBackoff.paceMilliseconds
  ) {
    self.settings = settings
    self.paceMilliseconds = paceMilliseconds
    patience = .milliseconds(patienceMilliseconds)
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.applicationProtocols = ["http/1.1"]
    if let trustRoots { configuration.trustRoots = trustRoots }
    tls = Result { [configuration] in try NIOSSLContext(configuration: configuration) }
  }

  /// - Throws: `Unreachable` or `CancellationError`.
  func get(_ path: String, _ query: [(String, String)]) async throws -> Answer {
    let text = query.map { "\(FormText.encode($0.0))=\(FormText.encode($0.1))" }
    return try await exchange(
      "GET \(settings.target(path))?\(text.joined(separator: "&")) HTTP/1.1", form: nil)
  }

  /// - Throws: `Unreachable` or `CancellationError`. It is then unknown whether the request
  ///   arrived.
  func post(_ path: String, form: String) async throws -> Answer {
    try await exchange("POST \(settings.target(path)) HTTP/1.1", form: form)
  }

  private func exchange(_ line: String, form: String?) async throws -> Answer {
    let request = request(line, form: form)
    while let connection = takeIdle() {
      do {
        return try await send(request, connection)
      } catch is StripeConnection.ClosedBeforeUse {
        // The connection was closed while it was idle. If the request did arrive, the identifier
        // shows it.
      }
    }
    return try await send(request, try await connect())
  }

  private func send(_ request: [UInt8], _ connection: StripeConnection) async throws -> Answer {
    do {
      let reader = try await connection.send(request, within: patience)
      if connection.isOpen { keep(connection) }
      return Answer(
        status: reader.status ?? 0, body: reader.kept, shouldRetry: reader.shouldRetry,
        retryAfterMilliseconds: reader.retryAfter.flatMap {
          RetryAfter.milliseconds($0, nowMilliseconds: WallClock.milliseconds)
        })
    } catch let error where error is CancellationError || error is StripeConnection.ClosedBeforeUse
    {
      throw error
    } catch {
      throw unreachable(error)
    }
  }

  private func request(_ line: String, form: String?) -> [UInt8] {
    var head = "\(line)\r\nHost: \(settings.base.authority)\r\n"
    head += "Authorization: Bearer \(settings.key)\r\nStripe-Version: \(Self.version)\r\n"
    head += "User-Agent: \(BuildInfo.line("license-metering"))\r\nAccept: application/json\r\n"
    guard let form else { return Array((head + "\r\n").utf8) }
    head += "Content-Type: application/x-www-form-urlencoded\r\n"
    return Array((head + "Content-Length: \(form.utf8.count)\r\n\r\n" + form).utf8)
  }

  private func connect() async throws -> StripeConnection {
    let base = settings.base
    let made = Mutex<StripeConnection?>(nil)
    let name = base.address == nil ? base.host : nil
    let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connectTimeout(.seconds(10))
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      .channelInitializer { [tls] channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if base.isTLS {
            try pipeline.addHandler(
              NIOSSLClientHandler(context: tls.get(), serverHostname: name))
          }
          let connection = StripeConnection(channel)
          try pipeline.addHandler(connection)
          made.withLock { $0 = connection }
        }
      }
    do {
      _ = try await bootstrap.connect(host: base.host, port: base.port).get()
    } catch {
      throw unreachable(error)
    }
    guard let connection = made.withLock({ $0 }) else { throw Unreachable(description: "closed") }
    return connection
  }

  private func unreachable(_ error: any Error) -> Unreachable {
    Unreachable(
      description: harmless("\(settings.base.authority) gave no answer: \(error)"))
  }

  /// Shortens a text to one line without the key, so that it may go into logs and answers.
  func harmless(_ text: String) -> String {
    StripeErrorText.harmless(text.replacing(settings.key, with: "(key)"))
  }

  private func takeIdle() -> StripeConnection? {
    idle.withLock { idle in
      while let connection = idle.popLast() {
        if connection.isOpen { return connection }
      }
      return nil
    }
  }

  private func keep(_ connection: StripeConnection) {
    let isKept = idle.withLock { idle in
      guard idle.count < Self.mostIdle else { return false }
      idle.append(connection)
      return true
    }
    if !isKept { connection.cut() }
  }

  package func close() {
    let all = idle.withLock { idle in
      defer { idle = [] }
      return idle
    }
    for connection in all { connection.cut() }
  }
}
