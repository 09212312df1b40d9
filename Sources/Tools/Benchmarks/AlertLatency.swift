import ArgumentParser
import Foundation
import KafkaTransport
import Metering
import MeteringTestKit
import NIOCore
import NIOHTTP1
import NIOPosix
import PostgresStore
import Synchronization
import WebhookDelivery

/// Measures the whole pipeline from the producer's call with the event that reaches a limit to the
/// first byte at the customer's endpoint. Other events flow meanwhile, one endpoint in ten is dead,
/// and one in ten takes 10 s.
struct AlertLatency: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "alert-latency",
    abstract: "Measures the time from an event in Kafka to the first byte of its webhook.")

  @Option(help: "How many events a second flow beside those that reach a limit.") var rate = 50_000
  @Option(help: "For how many seconds it is measured.") var seconds = 20
  @Option(help: "The number of licenses in the flow. None of them comes near its limit.")
  var licenses = 1_000
  @Option(help: "How many events a second reach a limit.") var alertsPerSecond = 20
  @Option(help: "The number of endpoints. Each belongs to another customer.") var endpoints = 20

  func run() async throws {
    note("starting broker, PostgreSQL, usage-aggregator and webhook-dispatcher")
    let postgres = try PrivatePostgres()
    let stage = try Stage()
    let database = TestDatabase(url: try postgres.makeDatabase())
    let receiver = try await HookReceiver()
    let probes = seconds * alertsPerSecond
    try prepare(database, receiver, probes)
    let aggregator = try stage.startAggregator(database: database.url)
    let dispatcher = try Stage.startDispatcher(database: database.url)
    defer { dispatcher.killNow() }
    try eventually("limits are watched", within: 60) {
      try database.integer("select count(*) from limit_change") == 0
    }
    // The hints are read directly after the sweep.
    try await Task.sleep(for: .seconds(2))
    var kafka = try stage.kafka()
    kafka.set("linger.ms", "5")
    let producer = try KafkaProducer(kafka, clientID: "probe")
    note("\(rate) events/s for \(seconds) s")
    let flow = try Flow(stage.kafka(), rate: rate, seconds: seconds, licenses: licenses)
    var sent: [String: UInt64] = [:]
    for n in 0..<probes {
      sent["lic_probe_\(n)"] = DispatchTime.now().uptimeNanoseconds
      try send("lic_probe_\(n)", n, producer)
      try await Task.sleep(for: .milliseconds(1_000 / alertsPerSecond))
    }
    let healthy = sent.filter { !isBad(Int($0.key.dropFirst(10))! % endpoints) }
    try eventually("every healthy endpoint was told", within: 30) {
      receiver.arrivals.count >= healthy.count
    }
    try report(healthy, receiver.arrivals, flow)
    aggregator.signal(SIGTERM)
    aggregator.wait()
    stage.end()
    try await receiver.close()
  }

  /// The first tenth of the endpoints is dead, and the next tenth takes 10 s.
  private func isBad(_ endpoint: Int) -> Bool { endpoint < 2 * max(1, endpoints / 10) }

  private func url(_ endpoint: Int, _ receiver: HookReceiver) -> String {
    let tenth = max(1, endpoints / 10)
    if endpoint < tenth { return "http://127.0.0.1:1/dead" }
    return "http://127.0.0.1:\(receiver.port)/\(endpoint < 2 * tenth ? "slow" : "hook")"
  }

  private func prepare(_ database: TestDatabase, _ receiver: HookReceiver, _ probes: Int) throws {
    try database.execute(
      """
      insert into customer (customer_id, name) select 'cus_' || n, 'customer' from generate_series(0, \(endpoints - 1)) n;
      insert into license (license_id, customer_id, plan, issued_at, expires_at, alert_thresholds)
      select 'lic_probe_' || n, 'cus_' || (n % \(endpoints)), 'professional', now(), now() + interval '1 year', '{100}'::int[]
      from generate_series(0, \(probes - 1)) n
      union all
      select 'lic_' || lpad(n::text, 8, '0'), 'cus_0', 'professional', now(), now() + interval '1 year', '{80,100}'::int[]
      from generate_series(0, \(licenses - 1)) n;
      insert into license_limit select license_id, 'api_calls', case when license_id like 'lic_probe%' then 1 else 1000000000 end
      from license;
      """)
    for n in 0..<endpoints {
      try Stage.addEndpoint(
        n, customer: "cus_\(n)", url: url(n, receiver), database.connection())
    }
  }

  private func send(_ license: String, _ n: Int, _ producer: KafkaProducer) throws {
    let now = UTCTime.text(Int64(Date().timeIntervalSince1970 * 1_000))
    let value = Array(
      #"{"specversion":"1.0","id":"probe-\#(n)","source":"/probe","type":"license.usage.recorded","subject":"\#(license)","time":"\#(now)","data":{}}"#
        .utf8)
    try Array(license.utf8).withUnsafeBytes { key in
      try value.withUnsafeBytes {
        while try !producer.produce(topic: UsageLog.topic, key: key, value: $0) {
          _ = producer.poll(timeoutMilliseconds: 1)
        }
      }
    }
    _ = producer.poll(timeoutMilliseconds: 0)
  }

  private func report(_ sent: [String: UInt64], _ arrivals: [String: UInt64], _ flow: Flow) throws {
    let milliseconds = sent.compactMap { license, at in
      arrivals[license].map { Double($0 - at) / 1e6 }
    }.sorted()
    func line(_ name: String, _ value: String) {
      print(name.padding(toLength: 30, withPad: " ", startingAt: 0), value)
    }
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1)] {
      let at = min(milliseconds.count - 1, Int(Double(milliseconds.count) * q))
      line("alert_\(name)_ms", String(format: "%.0f", milliseconds[at]))
    }
    line("alerts", "\(milliseconds.count) of \(sent.count)")
    while !flow.isFinished { Thread.sleep(forTimeInterval: 0.05) }
    line("sent_events_per_second", "\(flow.sentRate)")
  }
}

/// Records when the first byte about each license came, and answers. On `/slow` it answers after 10
/// s.
private final class HookReceiver: Sendable {
  private let channel: any Channel
  private let log = ArrivalLog()

  init() async throws {
    let log = self.log
    channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.configureHTTPServerPipeline()
          try channel.pipeline.syncOperations.addHandler(Handler(log))
        }
      }.bind(host: "127.0.0.1", port: 0).get()
  }

  var port: Int { channel.localAddress?.port ?? 0 }
  var arrivals: [String: UInt64] { log.first.withLock { $0 } }
  func close() async throws { try await channel.close() }

  private final class ArrivalLog: Sendable {
    let first = Mutex<[String: UInt64]>([:])
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let log: ArrivalLog
    private var began: UInt64 = 0
    private var isSlow = false
    private var body = ""

    init(_ log: ArrivalLog) { self.log = log }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head):
        began = DispatchTime.now().uptimeNanoseconds
        isSlow = head.uri == "/slow"
        body = ""
      case .body(let part): body += String(buffer: part)
      case .end:
        if !isSlow, let license = body.firstMatch(of: #/"license_id": ?"([^"]+)"/#)?.output.1 {
          let began = self.began
          log.first.withLock { $0.merge([String(license): began]) { first, _ in first } }
        }
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        if isSlow {
          context.eventLoop.scheduleTask(in: .seconds(10)) { bound.value.0.answer(bound.value.1) }
        } else {
          answer(context)
        }
      }
    }

    private func answer(_ context: ChannelHandlerContext) {
      let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["content-length": "0"])
      context.write(wrapOutboundOut(.head(head)), promise: nil)
      context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
  }
}
