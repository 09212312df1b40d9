import ArgumentParser
import AsyncHTTPClient
import Foundation
import MeteringTestKit
import NIOCore
import NIOHTTP1
import NIOPosix
import PostgresStore
import Synchronization
import WebhookDelivery

/// Measures deliveries, which are signed and recorded, and bare posts of the same bytes to the same
/// receiver, in one run.
struct Webhooks: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Compares the deliveries/s with a bare POST loop, and measures claims while many are pending."
  )

  @Option(help: "How many deliveries each side makes.") var deliveries = 60_000
  @Option(help: "The number of endpoints. Each has four connections.") var endpoints = 8
  @Option(help: "How many deliveries are pending while claims are timed. With 0 nothing is timed.")
  var pending = 1_000_000

  func run() async throws {
    let receiver = try await Receiver()
    let bare = try await bareRate(receiver)
    print("bare async-http-client: \(Int(bare)) POST/s, \(endpoints * 4) at a time")
    let database = try TestDatabase()
    let dispatched = try dispatchedRate(receiver, database)
    print(
      "webhook-dispatcher: \(Int(dispatched.sent)) deliveries/s sent, \(Int(dispatched.recorded)) recorded"
    )
    print("ratio: \(Double(Int(dispatched.recorded / bare * 1_000)) / 1_000)")
    if pending > 0 { try claims(try TestDatabase()) }
    try await receiver.close()
  }

  private func bareRate(_ receiver: Receiver) async throws -> Double {
    let client = HTTPClient(eventLoopGroupProvider: .singleton)
    let url = receiver.url
    let body = ByteBuffer(
      bytes: WebhookBody.make(
        id: "msg_00000000000000000000000000000000", timestamp: "2026-11-23T18:40:00.000Z",
        type: "license.limit_exceeded",
        data: #"{"license_id":"lic_1","meter":"api_calls","limit":50000,"used":50001}"#))
    func post(_ count: Int) async throws {
      let left = Tally(count)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<(endpoints * 4) {
          group.addTask {
            while left.value.subtract(1, ordering: .relaxed).oldValue > 0 {
              var request = HTTPClientRequest(url: url)
              request.method = .POST
              request.headers = ["content-type": "application/json"]
              request.body = .bytes(body)
              let response = try await client.execute(request, timeout: .seconds(15))
              _ = try await response.body.collect(upTo: 16_384)
            }
          }
        }
        try await group.waitForAll()
      }
    }
    try await post(deliveries / 10)
    let began = DispatchTime.now().uptimeNanoseconds
    try await post(deliveries)
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - began) / 1e9
    try await client.shutdown()
    return Double(deliveries) / seconds
  }

  private func dispatchedRate(
    _ receiver: Receiver, _ database: TestDatabase
  ) throws -> (sent: Double, recorded: Double) {
    try database.addLicense("lic_1")
    try addEndpoints(endpoints, url: receiver.url, database)
    let process = try Stage.startDispatcher(database: database.url)
    defer { process.killNow() }
    func round(_ alerts: Int, _ name: String) throws -> (sent: Double, recorded: Double) {
      let expected = receiver.count + alerts * endpoints
      try database.execute(
        """
        select alert_raise('license.limit_exceeded', 'lic_1', now(),
          '{"meter":"api_calls","limit":50000,"used":50001}', '\(name)' || n) from generate_series(1, \(alerts)) n
        """)
      let began = DispatchTime.now().uptimeNanoseconds
      func seconds() -> Double { Double(DispatchTime.now().uptimeNanoseconds - began) / 1e9 }
      try eventually("all sent; \(process.output.suffix(2_000))", within: 300) {
        receiver.count >= expected
      }
      let sent = seconds()
      try eventually("all recorded", within: 60) {
        try database.integer("select count(*) from webhook_delivery where status = 'pending'") == 0
      }
      let total = Double(alerts * endpoints)
      return (total / sent, total / seconds())
    }
    _ = try round(max(1, deliveries / endpoints / 10), "warm")
    return try round(deliveries / endpoints, "run")
  }

  private func addEndpoints(_ count: Int, url: String, _ database: TestDatabase) throws {
    for n in 0..<count {
      try Stage.addEndpoint(n, customer: "cus_test", url: url, database.connection())
    }
  }

  /// Compares one endpoint with all pending deliveries and a hundred endpoints with one delivery
  /// each.
  private func claims(_ database: TestDatabase) throws {
    try database.addLicense("lic_1")
    try addEndpoints(101, url: "http://127.0.0.1:1/", database)
    func time(_ label: String) throws {
      let store = WebhookStore(try database.connection())
      var milliseconds: [Double] = []
      for _ in 0..<50 {
        let began = DispatchTime.now().uptimeNanoseconds
        let claims = try store.claim(most: 512, perEndpoint: 4, rooms: [], leaseSeconds: 60)
        milliseconds.append(Double(DispatchTime.now().uptimeNanoseconds - began) / 1e6)
        try store.release(claims.map { .init(deliveryID: $0.deliveryID, lease: $0.lease) })
      }
      milliseconds.sort()
      print("claim with \(label) pending: p50 \(milliseconds[25]) ms, worst \(milliseconds[49]) ms")
    }
    try database.execute("select alert_raise('license.expired', 'lic_1', now(), '{}', 'first')")
    try time("101")
    try database.execute("set statement_timeout = 0")
    try database.execute(
      """
      with a as (
        insert into alert (type, license_id, customer_id, occurred_at, data, dedupe_key)
        select 'license.expired', 'lic_1', 'cus_test', now(), '{}', 'm' || n from generate_series(1, \(pending)) n
        returning alert_id
      ) insert into webhook_delivery (alert_id, endpoint_id, webhook_id) select alert_id, 'ep_0', 'msg_' || alert_id from a
      """)
    try database.execute("analyze webhook_delivery")
    try time("\(pending + 101)")
  }
}

private final class Tally: Sendable {
  let value: Atomic<Int>

  init(_ value: Int) { self.value = Atomic(value) }
}

/// Answers every POST with 200 and counts them.
private final class Receiver: Sendable {
  private let channel: any Channel
  private let counter = Tally(0)

  init() async throws {
    let counter = self.counter
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelOption(.backlog, value: 512)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(counter))
        }
      }.bind(host: "127.0.0.1", port: 0).get()
  }

  var url: String { "http://127.0.0.1:\(channel.localAddress?.port ?? 0)/hook" }
  var count: Int { counter.value.load(ordering: .relaxed) }
  func close() async throws { try await channel.close() }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let counter: Tally

    init(_ counter: Tally) { self.counter = counter }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      guard case .end = unwrapInboundIn(data) else { return }
      counter.value.wrappingAdd(1, ordering: .relaxed)
      let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["content-length": "2"])
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: "ok")))), promise: nil)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
  }
}
