import HTTPListening
import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import ServiceRuntime

/// The listener of the API and of the pages.
struct MeteringServer: Service {
  let settings: APISettings
  let api: API
  let metrics: MetricsRegistry
  let logger: Logger

  func run() async throws {
    let table = try makeTable()
    let channel = MeteringChannel(settings: settings, connections: table) {
      [api, clients = settings.clients] request, writer, channel in
      let client = clients.resolve(
        clients.client(channel.remoteAddress),
        forwardedFor: HTTPField.Name("X-Forwarded-For").flatMap { request.headers[$0] })
      let answer = await api.respond(to: request, client: client)
      try await Self.write(
        answer, request, writer, HTTPDate.text(WallClock.milliseconds))
    }
    let server = channel.server(
      configuration: ServerConfiguration(
        address: .hostname(settings.bind.host, port: settings.bind.port), backlog: 4_096,
        availableConnectionsDelegate: Accepting(table: table)),
      onServerRunning: { [logger] channel in
        let address = ServiceRuntime.BindAddress(
          host: settings.bind.host, port: channel.localAddress?.port ?? settings.bind.port)
        logger.info(
          "listening", metadata: ["address": "\(address)", "connections": "\(table.maximum)"])
      },
      eventLoopGroup: MultiThreadedEventLoopGroup.singleton, logger: Logger(label: "http"))
    do {
      try await server.run()
    } catch let error as IOError {
      throw ListenError(address: settings.bind, underlying: error)
    }
  }

  /// More connections would need more memory for their requests than there is.
  private static let mostConnections = 20_000
  /// The service is useless with fewer connections.
  private static let fewestConnections = 8

  /// Pauses the listener while there are no descriptors for more connections.
  private struct Accepting: AvailableConnectionsDelegate {
    let table: ConnectionTable

    func connectionOpened() { table.opened() }
    func connectionClosed() { _ = table.closed() }
    func isAcceptingNewConnections() -> Bool { table.mayAccept() }
  }

  /// Makes a table for as many connections as there are descriptors.
  private func makeTable() throws -> ConnectionTable {
    let budget = DescriptorBudget.current()
    guard budget.apiConnections >= Self.fewestConnections else {
      throw ConfigurationError(
        "the process may open \(budget.limit) files at a time, which leaves none for connections. "
          + "Raise the limit (ulimit -n). 1024 is enough for a start")
    }
    let table = ConnectionTable(
      descriptors: min(budget.apiConnections, Self.mostConnections),
      share: settings.connectionsPerAddress)
    ConnectionMetrics.register(table, on: metrics)
    return table
  }

  private static func write(
    _ answer: APIAnswer, _ request: Request, _ writer: consuming ResponseWriter, _ date: String
  ) async throws {
    var head = HTTPResponse(status: answer.status, headerFields: answer.headers)
    head.headerFields[.date] = date
    let isHead = request.method == .head
    if isHead, let mark = HTTPField.Name(MeteringChannel.plainMark) {
      head.headerFields[mark] = "1"
    }
    switch answer.body {
    case .bytes(let bytes):
      if answer.status != .noContent, answer.status != .notModified {
        head.headerFields[.contentLength] = String(bytes.count)
      }
      if isHead || bytes.isEmpty {
        try await writer.writeResponse(head)
      } else {
        try await writer.write(
          response: head, body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
      }
    case .stream(let stream):
      guard !isHead else {
        try await writer.writeResponse(head)
        return
      }
      var body = BodyWriter(try await writer.writeHead(head))
      // If it throws, the connection is closed before the end of the answer is written.
      try await stream(&body)
      try await body.inner.finish(nil)
    }
  }
}
