import JSONText
import Metering
import NIOCore
import Synchronization
import SystemRandom

/// Usage to report.
public struct UsageRecord: Sendable {
  /// The meter, which matches `[a-z][a-z0-9_]{0,63}`.
  public var meter: String
  /// The quantity, from 0 to 10^9.
  public var quantity: Int64
  /// The license's id. Nil stands for the client's license key if that is an id.
  public var licenseID: String?
  /// The domain where it was used.
  public var domain: String?
  /// The feature that was used.
  public var feature: String?

  /// Makes a record of the client's own license.
  public init(
    meter: String, quantity: Int64 = 1, licenseID: String? = nil, domain: String? = nil,
    feature: String? = nil
  ) {
    self.meter = meter
    self.quantity = quantity
    self.licenseID = licenseID
    self.domain = domain
    self.feature = feature
  }
}

/// The outcomes of the recorded usage.
public struct UsageStatistics: Sendable, Equatable {
  /// The number of records that the queue accepted.
  public var accepted = 0
  /// The number of records that the service has.
  public var sent = 0
  /// The number of records that the service refused.
  public var rejected = 0
  /// The number of records that were dropped, because the queue was full, a record broke a rule,
  /// the service will never accept it, or the client was closed before it was sent.
  public var dropped = 0
  /// The number of records that are still in the queue.
  public var pending = 0
}

/// Sends events in batches, one at a time. A retry has the same ids, so that each counts once.
final class UsageQueue: Sendable {
  /// Sends a batch and returns how many events the service rejected.
  typealias Send = @Sendable (_ batch: [UInt8], _ count: Int) async throws(NoAnswer) -> Int

  private struct Queue {
    /// The events in JSON.
    var events: [[UInt8]] = []
    var statistics = UsageStatistics()
    var failures = 0
    var isClosed = false
    var loop: Task<Void, Never>?
    /// The delivery that is on its way.
    var sending: Task<Bool, Never>?
  }

  private static let batchEvents = 500
  private static let batchBytes = 512 * 1_024
  private static let interval = Duration.seconds(1)
  /// The longest pause is 2^6 intervals, which is a minute.
  private static let maximumFailures = 6
  private static let maximumQuantity: Int64 = 1_000_000_000
  private static let maximumDimensionBytes = 1_024

  private let queue = Mutex(Queue())
  private let maximum: Int
  private let source = "sdk/swift/" + SystemRandom.hexadecimal()
  private let onProblem: @Sendable (String) -> Void
  private let send: Send

  init(maximum: Int, onProblem: @escaping @Sendable (String) -> Void, send: @escaping Send) {
    self.maximum = maximum
    self.onProblem = onProblem
    self.send = send
  }

  deinit { queue.withLock { $0.loop?.cancel() } }

  var statistics: UsageStatistics {
    queue.withLock { queue in
      var statistics = queue.statistics
      statistics.pending = queue.events.count
      return statistics
    }
  }

  /// Queues usage without waiting. Returns false if it was dropped.
  func record(_ usage: UsageRecord, licenseID: String, now: Int64) -> Bool {
    let event = event(usage, licenseID: licenseID, now: now)
    let (isTaken, isFull) = queue.withLock { queue -> (Bool, Bool) in
      guard let event, !queue.isClosed, queue.events.count < maximum else {
        queue.statistics.dropped += 1
        return (false, false)
      }
      queue.events.append(event)
      queue.statistics.accepted += 1
      if queue.loop == nil { queue.loop = loop() }
      return (true, queue.events.count == Self.batchEvents)
    }
    if isFull { Task { await deliver() } }
    if !isTaken { onProblem(event == nil ? "usage_invalid" : "usage_dropped") }
    return isTaken
  }

  /// Returns nil if it breaks the contract of events.
  private func event(_ usage: UsageRecord, licenseID: String, now: Int64) -> [UInt8]? {
    guard licenseID.isPlain(upTo: Limits.subjectBytes), MeterName.isValid(usage.meter),
      (0...Self.maximumQuantity).contains(usage.quantity),
      [usage.domain, usage.feature].allSatisfy({ text in
        guard let text else { return true }
        return text.utf8.count <= Self.maximumDimensionBytes && !text.utf8.contains(0)
      })
    else { return nil }
    var json = JSONWriter()
    json.beginObject()
    json.member("specversion", "1.0")
    json.member("id", SystemRandom.uuid())
    json.member("source", source)
    json.member("type", "license.usage.recorded")
    json.member("subject", licenseID)
    json.member("time", UTCTime.text(now))
    json.name("data")
    json.beginObject()
    json.member("meter", usage.meter)
    json.member("quantity", usage.quantity)
    if let domain = usage.domain, !domain.isEmpty { json.member("domain", domain) }
    if let feature = usage.feature, !feature.isEmpty { json.member("feature", feature) }
    json.endObject()
    json.endObject()
    return json.bytes
  }

  /// The loop ends with the queue or when the queue is closed.
  private func loop() -> Task<Void, Never> {
    Task { [weak self] in
      var failures = 0
      while !Task.isCancelled {
        // The sleep is cut short when the queue is closed.
        try? await Task.sleep(for: Self.interval * (1 << failures))
        guard let self, !Task.isCancelled else { return }
        await deliver()
        failures = queue.withLock(\.failures)
      }
    }
  }

  /// Sends queued events, and returns whether all of them were sent.
  ///
  /// - Parameter deadline: no request begins after it. A request that is on its way has its own
  ///   time limit.
  func flush(until deadline: NIODeadline) async -> Bool {
    while statistics.pending > 0, NIODeadline.now() < deadline {
      if await !deliver() {
        let pause = min(.milliseconds(200), deadline - .now())
        // The sleep is cut short if the caller was canceled. The deadline ends the loop.
        try? await Task.sleep(for: .nanoseconds(max(0, pause.nanoseconds)))
        if Task.isCancelled { break }
      }
    }
    return statistics.pending == 0
  }

  /// Sends like `flush`, and then accepts no more usage. The rest is dropped and counted.
  func close(until deadline: NIODeadline) async {
    _ = await flush(until: deadline)
    let left = queue.withLock { queue in
      guard !queue.isClosed else { return 0 }
      queue.isClosed = true
      queue.loop?.cancel()
      defer { queue.events = [] }
      queue.statistics.dropped += queue.events.count
      return queue.events.count
    }
    if left > 0 { onProblem("usage_dropped") }
  }

  /// Sends one batch, or waits for the one that is on its way. Its events stay in the queue until
  /// their outcome is known. Returns whether it is known.
  @discardableResult
  private func deliver() async -> Bool {
    let sending = queue.withLock { queue -> Task<Bool, Never>? in
      if let sending = queue.sending { return sending }
      guard !queue.events.isEmpty else { return nil }
      let batch = Self.batch(queue.events)
      let task = Task { await self.send(batch) }
      queue.sending = task
      return task
    }
    return await sending?.value ?? true
  }

  /// As many of the first events as fit into a batch.
  private static func batch(_ events: [[UInt8]]) -> [[UInt8]] {
    var bytes = 0
    return Array(
      events.prefix(batchEvents).prefix { event in
        bytes += event.count + 1
        return bytes <= batchBytes
      })
  }

  private func send(_ batch: [[UInt8]]) async -> Bool {
    let body = Array("[".utf8) + Array(batch.joined(separator: ",".utf8)) + Array("]".utf8)
    do throws(NoAnswer) {
      let rejected = try await send(body, batch.count)
      return settle(batch.count, rejected: rejected, failure: nil)
    } catch {
      return settle(batch.count, rejected: 0, failure: error)
    }
  }

  /// The problems after which the service will never accept the batch.
  private static let refusals: Set = ["http_400", "http_404", "http_413", "http_415", "http_422"]

  private func settle(_ count: Int, rejected: Int, failure: NoAnswer?) -> Bool {
    let isRefused = failure.map { Self.refusals.contains($0.problem) } ?? false
    let isKnown = failure == nil || isRefused
    queue.withLock { queue in
      queue.sending = nil
      guard isKnown else {
        queue.failures = min(queue.failures + 1, Self.maximumFailures)
        return
      }
      queue.failures = 0
      // If the queue was closed in the meantime, the events were counted as dropped, although the
      // service may have counted them.
      guard !queue.isClosed else { return }
      queue.events.removeFirst(count)
      if isRefused {
        queue.statistics.dropped += count
      } else {
        queue.statistics.sent += count - rejected
        queue.statistics.rejected += rejected
      }
    }
    if let failure, !isRefused { onProblem(failure.problem) }
    if isRefused { onProblem("usage_dropped") }
    if rejected > 0 { onProblem("usage_rejected") }
    return isKnown
  }
}
