import AsyncHTTPClient
import Logging
import NIOCore
import NIOHTTP1
import ServiceLifecycle
import ServiceRuntime
import Synchronization

/// Sends ended spans to an OpenTelemetry collector with OTLP over HTTP in JSON.
///
/// Ending a span never blocks. The queue is bounded. While the collector is slow or does not
/// answer, spans that do not fit are dropped and counted. A batch that the collector may accept
/// later is sent again.
package final class SpanExporter: Service {
  struct Settings: Sendable {
    /// The collector's URL, to which `/v1/traces` is appended.
    var endpoint: String
    var headers: [(name: String, value: String)] = []
    var timeoutMilliseconds: Int64 = 5_000
    var intervalMilliseconds: Int64 = 250
    var queueSpans = 8_192
    var batchSpans = 512
    /// How many milliseconds it goes on sending when the service stops.
    var farewellMilliseconds: Int64 = 2_000
  }

  private enum Outcome { case taken, refused, later }

  private static let longestPauseMilliseconds: Int64 = 30_000

  private static let answerBytes = 65_536

  private let settings: Settings
  private let resource: SpanRecord.Resource
  private let logger: Logger
  private let exported: Counter
  private let full: Counter
  private let refused: Counter
  private let queue = Mutex<[SpanRecord]>([])

  init(
    settings: Settings, resource: SpanRecord.Resource, metrics: MetricsRegistry, logger: Logger
  ) {
    self.settings = settings
    self.resource = resource
    self.logger = logger
    exported = metrics.counter(
      "meter_spans_exported_total", help: "Spans that the collector accepted.")
    func dropped(_ cause: String) -> Counter {
      metrics.counter(
        "meter_spans_dropped_total",
        help: "Spans that were lost because the queue was full or the collector refused them.",
        labels: [("cause", cause)])
    }
    full = dropped("queue_full")
    refused = dropped("refused")
  }

  /// Takes an ended span without blocking. Any thread may call it.
  func add(_ span: SpanRecord) {
    let isTaken = queue.withLock { queue -> Bool in
      guard queue.count < settings.queueSpans else { return false }
      queue.append(span)
      return true
    }
    if !isTaken { full.increment() }
  }

  package func run() async throws {
    // A redirect would send the headers, which may contain a token, to another host.
    let client = HTTPClient(
      eventLoopGroupProvider: .singleton,
      configuration: HTTPClient.Configuration(redirectConfiguration: .disallow))
    await cancelWhenGracefulShutdown { await self.exportUntilCanceled(client) }
    await farewell(client)
    // The process ends, and all connections end with it.
    try? await client.shutdown()
  }

  private func exportUntilCanceled(_ client: HTTPClient) async {
    var pause = settings.intervalMilliseconds
    var isAway = false
    while !Task.isCancelled {
      // If it is canceled, the sleep ends early and so does the loop.
      try? await Task.sleep(for: .milliseconds(pause))
      while !Task.isCancelled {
        let batch = takeBatch()
        if batch.isEmpty { break }
        let outcome = await send(batch, client, milliseconds: settings.timeoutMilliseconds)
        settle(batch, outcome)
        if (outcome == .later) != isAway, !Task.isCancelled {
          isAway = outcome == .later
          if isAway {
            logger.warning("the collector does not accept spans, so they wait or are dropped")
          } else {
            logger.notice("the collector accepts spans again")
          }
        }
        if outcome == .later { break }
      }
      pause =
        isAway
        ? min(pause * 2, Self.longestPauseMilliseconds) : settings.intervalMilliseconds
    }
  }

  private func farewell(_ client: HTTPClient) async {
    let end = ContinuousClock.now + .milliseconds(settings.farewellMilliseconds)
    while true {
      let left = (end - ContinuousClock.now) / Duration.milliseconds(1)
      let batch = takeBatch()
      guard left >= 1, !batch.isEmpty else { return }
      let outcome = await send(batch, client, milliseconds: Int64(left))
      settle(batch, outcome)
      if outcome == .later { return }
    }
  }

  private func takeBatch() -> [SpanRecord] {
    queue.withLock { queue -> [SpanRecord] in
      let batch = Array(queue.prefix(settings.batchSpans))
      queue.removeFirst(batch.count)
      return batch
    }
  }

  private func settle(_ batch: [SpanRecord], _ outcome: Outcome) {
    switch outcome {
    case .taken: exported.increment(by: batch.count)
    case .refused: refused.increment(by: batch.count)
    case .later:
      let lost = queue.withLock { queue -> Int in
        let room = max(settings.queueSpans - queue.count, 0)
        queue.insert(contentsOf: batch.suffix(room), at: 0)
        return max(batch.count - room, 0)
      }
      full.increment(by: lost)
    }
  }

  private func send(
    _ batch: [SpanRecord], _ client: HTTPClient, milliseconds: Int64
  ) async -> Outcome {
    var request = HTTPClientRequest(url: settings.endpoint + "/v1/traces")
    request.method = .POST
    request.headers.add(name: "content-type", value: "application/json")
    for (name, value) in settings.headers { request.headers.add(name: name, value: value) }
    request.body = .bytes(ByteBuffer(bytes: SpanRecord.document(batch, of: resource)))
    do {
      let answer = try await client.execute(request, timeout: .milliseconds(milliseconds))
      // The body is read only so that the connection can be used again.
      _ = try? await answer.body.collect(upTo: Self.answerBytes)
      switch answer.status.code {
      case 200..<300: return .taken
      // After these statuses OTLP allows sending again.
      case 429, 502, 503, 504: return .later
      default: return .refused
      }
    } catch {
      return .later
    }
  }
}
