import Foundation
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import Logging
import NIOCore
import NIOSSL
import ServiceLifecycle
import ServiceRuntime

/// The API's listener.
struct ValidationServer: Service {
  let bind: ServiceRuntime.BindAddress
  let api: ValidationAPI
  /// Nil: plain HTTP.
  let tls: TLSConfiguration?
  /// How long a request may take to come in, in milliseconds.
  let requestMilliseconds: Int
  let logger: Logger

  private static let idleTimeout = TimeAmount.seconds(75)

  func run() async throws {
    Self.raiseDescriptorLimit()
    var serverLogger = logger
    serverLogger.logLevel = max(logger.logLevel, .notice)
    let http = HTTPServerBuilder.http1(
      configuration: .init(
        additionalChannelHandlers: [
          RequestDeadline(limit: .milliseconds(Int64(requestMilliseconds)))
        ],
        idleTimeout: Self.idleTimeout,
        httpDecoderConfiguration: .init(
          maxHeaderFieldSize: 8_192, maxHeaderListSize: 16_384, maxHeaderFieldCount: 100)))
    let application = Application(
      responder: api, server: try tls.map { try .tls(http, tlsConfiguration: $0) } ?? http,
      configuration: ApplicationConfiguration(
        address: .hostname(bind.host, port: bind.port), backlog: 4_096),
      onServerRunning: { [logger, bind] channel in
        let port = channel.localAddress?.port ?? bind.port
        logger.info(
          "listening",
          metadata: ["address": "\(ServiceRuntime.BindAddress(host: bind.host, port: port))"])
      },
      logger: serverLogger)
    do {
      try await application.run()
    } catch let error as IOError {
      throw ListenError(address: bind, underlying: error)
    }
  }

  /// A connection takes a descriptor, and the usual limit of 1,024 is meant for programs that use select().
  private static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = min(limit.rlim_max, 1_048_576)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }
}
