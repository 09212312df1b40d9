import Hummingbird
package import Logging
import ServiceLifecycle
import Synchronization

/// The admin address of a service, without authentication; it belongs on an internal network.
///
/// - `GET /health/live`: 200 `{"status":"live"}` while the process answers at all.
/// - `GET /health/ready`: see `HealthState.json()`.
/// - `GET /metrics`: Prometheus text 0.0.4.
///
/// `HEAD` works likewise. Another path is 404 and another method 405 (with `Allow`), as RFC 9457
/// `application/problem+json`. At most 64 connections at a time, fewer where the process may open few
/// descriptors; further ones wait in the backlog. A connection idle for 30 s is closed. Graceful shutdown lets answers under way finish.
package struct AdminServer: Service {
  private let bind: BindAddress
  private let health: HealthState
  private let metrics: MetricsRegistry
  private let logger: Logger
  private let onBound: @Sendable (Int) -> Void

  /// - Parameter onBound: called once with the port, which is the system's choice where
  ///   `bind.port` is 0, when connections are accepted.
  package init(
    bind: BindAddress, health: HealthState, metrics: MetricsRegistry, logger: Logger,
    onBound: @escaping @Sendable (_ port: Int) -> Void = { _ in }
  ) {
    self.bind = bind
    self.health = health
    self.metrics = metrics
    self.logger = logger
    self.onBound = onBound
  }

  /// Serves until graceful shutdown or cancellation.
  /// - Throws: `ListenError` where the address cannot be bound.
  package func run() async throws {
    let isBound = Atomic<Bool>(false)
    // Hummingbird reports each start at info; the services' own line says it already.
    var serverLogger = logger
    serverLogger.logLevel = max(logger.logLevel, .notice)
    let application = Application(
      responder: CallbackResponder { (request: Request, _: BasicRequestContext) in
        self.answer(method: request.method, path: request.uri.path)
      },
      server: .http1(configuration: .init(idleTimeout: .seconds(30))),
      configuration: ApplicationConfiguration(
        address: .hostname(bind.host, port: bind.port),
        availableConnectionsDelegate: .maximum(
          DescriptorBudget.current().adminConnections, logger: serverLogger)),
      onServerRunning: { channel in
        isBound.store(true, ordering: .relaxed)
        let port = channel.localAddress?.port ?? bind.port
        logger.info(
          "admin server listening",
          metadata: ["address": "\(BindAddress(host: bind.host, port: port))"])
        onBound(port)
      },
      logger: serverLogger)
    do {
      try await application.run()
    } catch {
      if error is CancellationError || isBound.load(ordering: .relaxed) { throw error }
      throw ListenError(address: bind, underlying: error)
    }
  }

  private func answer(method: HTTPRequest.Method, path: String) -> Response {
    let response: Response
    switch path {
    case "/health/live":
      response = Self.json(.ok, #"{"status":"live"}"#)
    case "/health/ready":
      let (status, body) = health.json()
      response = Self.json(status == 200 ? .ok : .serviceUnavailable, body)
    case "/metrics":
      response = Self.text(
        .ok, metrics.render(), type: "text/plain; version=0.0.4; charset=utf-8")
    default:
      let missing = Self.problem(
        .notFound, code: "not_found", detail: "There is /health/live, /health/ready and /metrics.")
      return method == .head ? missing.createHeadResponse() : missing
    }
    switch method {
    case .get: return response
    case .head: return response.createHeadResponse()
    default:
      var refusal = Self.problem(
        .methodNotAllowed, code: "method_not_allowed", detail: "Use GET or HEAD.")
      refusal.headers[.allow] = "GET, HEAD"
      return refusal
    }
  }

  private static func json(_ status: HTTPResponse.Status, _ body: String) -> Response {
    text(status, body, type: "application/json")
  }

  private static func problem(
    _ status: HTTPResponse.Status, code: String, detail: String
  ) -> Response {
    let body =
      #"{"type":"about:blank","title":"\#(status.reasonPhrase)","status":\#(status.code),"#
      + #""code":"\#(code)","detail":"\#(detail)"}"#
    return text(status, body, type: "application/problem+json")
  }

  private static func text(
    _ status: HTTPResponse.Status, _ body: String, type: String
  ) -> Response {
    Response(
      status: status, headers: [.contentType: type, .cacheControl: "no-store"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: body)))
  }
}

/// A server could not take its address; `description` is one line with the address and the cause.
package struct ListenError: Error, CustomStringConvertible {
  package let description: String

  package init(address: BindAddress, underlying: any Error) {
    // SwiftNIO puts the name of its own function first and leaves a parenthesis unpaired:
    // "bind(descriptor:ptr:bytes:): Address already in use) (errno: 98)".
    var cause = "\(underlying)"
    if let end = cause.firstRange(of: "): ")?.upperBound { cause = String(cause[end...]) }
    cause = cause.replacing(") (errno", with: " (errno")
    description = LineText.singleLine("cannot listen on \(address): \(cause)")
  }
}
