import AsyncHTTPClient
import Metering
import NIOCore
import NIOPosix
import NIOSSL
import ServiceRuntime
import Synchronization
import WebhookDelivery

/// HTTP clients, one a name and address: its connections go to that very address, whatever the name resolves to by then, and TLS
/// verifies the name. All share the event loops; a client without connections costs a few kilobytes.
///
/// async-http-client resolves for itself unless `dnsOverride` names the host, and takes that for the life of the client: so the pin is
/// the client's, and no request of it can go elsewhere.
final class PinnedClients: Sendable {
  private struct Entry {
    let client: HTTPClient
    var users = 0
    var lastUsed: Int64
  }

  /// Beyond, those that nobody uses are closed.
  private static let maximumIdle = 1_024
  private static let idleMilliseconds: Int64 = 60_000

  private let clients = Mutex<[String: Entry]>([:])
  private let group: any EventLoopGroup
  private let configuration: HTTPClient.Configuration

  init(group: any EventLoopGroup, tls: TLSConfiguration, timeoutMilliseconds: Int) {
    self.group = group
    var configuration = HTTPClient.Configuration(
      tlsConfiguration: tls, redirectConfiguration: .disallow,
      timeout: .init(connect: .milliseconds(Int64(timeoutMilliseconds))), decompression: .disabled)
    configuration.httpVersion = .http1Only
    // Shorter than most servers' own: a request on a connection that the other side is just closing fails.
    configuration.connectionPool.idleTimeout = .seconds(4)
    configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 256
    configuration.connectionPool.retryConnectionEstablishment = false
    self.configuration = configuration
  }

  /// Runs `body` with the client of that name and address.
  func withClient<T>(
    host: String, address: IPAddress, _ body: (HTTPClient) async throws -> T
  ) async throws -> T {
    let key = "\(host) \(address)"
    let client = clients.withLock { clients in
      if clients[key] == nil {
        var pinned = configuration
        pinned.dnsOverride = [host: "\(address)"]
        clients[key] = Entry(
          client: HTTPClient(eventLoopGroupProvider: .shared(group), configuration: pinned),
          lastUsed: 0)
      }
      clients[key]!.users += 1
      return clients[key]!.client
    }
    defer {
      clients.withLock { clients in
        clients[key]?.users -= 1
        clients[key]?.lastUsed = Int64(Monotonic.milliseconds)
      }
    }
    return try await body(client)
  }

  /// Closes clients that nobody has used for a minute, or more of them where there are many; called now and then.
  func closeIdle() async {
    let now = Int64(Monotonic.milliseconds)
    let idle = clients.withLock { clients -> [HTTPClient] in
      let patience = clients.count > Self.maximumIdle ? 1_000 : Self.idleMilliseconds
      let keys = clients.filter { $0.value.users == 0 && now - $0.value.lastUsed > patience }.keys
      return keys.compactMap { clients.removeValue(forKey: $0)?.client }
    }
    for client in idle { await Self.close(client) }
  }

  /// Once no request is under way.
  func closeAll() async {
    let all = clients.withLock { clients -> [HTTPClient] in
      defer { clients.removeAll() }
      return clients.values.map(\.client)
    }
    for client in all { await Self.close(client) }
  }

  private static func close(_ client: HTTPClient) async {
    // It fails only where connections had to be cut: there is nothing more to do for them.
    try? await client.shutdown()
  }
}
