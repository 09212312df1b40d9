import Administration
import Billing
import Foundation
import HTTPTypes
import KafkaTransport
import Metering
import PostgresStore
import ServiceRuntime
import Synchronization

/// `POST /v1/dead-letters/requeue`: sends dead letters to their topics again, at most 1,000 a request.
struct DeadLetterRequeue {
  private static let most = 1_000
  /// One at a time: two would send the same ones.
  private static let isUnderway = Atomic<Bool>(false)

  private let request: APIRequest
  private let filter: DeadLetterStore.Filter
  private let again: Bool
  /// What was chosen, for the audit log.
  private let resource: String

  init(_ request: APIRequest) throws(Problem) {
    self.request = request
    try request.finishQuery()
    var body = try request.json
    let all = body.boolean("all") ?? false
    let reason = body.choice("reason", RejectionReason.self)?.rawValue
    let topic = body.text("topic", atMost: 249)
    let partition = body.integer("partition", in: 0...Int64(Int32.max)).map { Int32($0) }
    let offset = body.integer("log_offset", in: 0...Int64.max)
    let epoch = body.integer("log_epoch", in: 0...Int64(Int32.max)).map { Int32($0) }
    let again = body.boolean("again") ?? false
    let isPlace = topic != nil && partition != nil && offset != nil
    if (topic ?? partition.map(String.init) ?? offset.map(String.init)) != nil, !isPlace {
      body.blame("topic", "It is given with partition and log_offset: they say which one.")
    } else if (all ? 1 : 0) + (reason == nil ? 0 : 1) + (isPlace ? 1 : 0) != 1 {
      body.blame("all", "Give one of all, reason, or topic with partition and log_offset.")
    }
    try body.finish()
    filter = DeadLetterStore.Filter(
      reason: reason, topic: topic, partition: partition, offset: offset, logEpoch: epoch)
    // One that is named is meant.
    self.again = again || isPlace
    resource =
      isPlace
      ? "\(epoch.map(String.init) ?? "*")/\(topic ?? "")/\(partition ?? 0)/\(offset ?? 0)"
      : reason ?? "all"
  }

  func run() async throws -> APIAnswer {
    guard let configuration = try request.context.settings.kafka() else {
      throw Problem(
        .serviceUnavailable, "no_kafka",
        "Set METER_KAFKA_BROKERS: dead letters are sent to their topics again.")
    }
    guard !Self.isUnderway.exchange(true, ordering: .relaxed) else {
      throw Problem.conflict("requeue_underway", "Another request is sending; wait for it.")
    }
    defer { Self.isUnderway.store(false, ordering: .relaxed) }
    let (filter, again) = (filter, again)
    let chosen = try await request.read {
      try DeadLetterStore($0).requeueable(filter, again: again, limit: Self.most)
    }
    var sent = 0
    if !chosen.places.isEmpty {
      let sender = try await Self.blocking {
        try DeadLetterSender(configuration, clientID: "metering-api-dead-letters")
      }
      for start in stride(from: 0, to: chosen.places.count, by: DeadLetterSender.pageRows) {
        let end = min(start + DeadLetterSender.pageRows, chosen.places.count)
        sent += try await send(Array(chosen.places[start..<end]), sender, sentBefore: sent)
      }
    }
    return Resource(
      [
        "requeued", "already_counted", "already_requeued", "never_valid", "same_value",
        "remaining",
      ],
      [
        .integer(Int64(sent)), .integer(Int64(chosen.alreadyCounted)),
        .integer(Int64(chosen.alreadyRequeued)), .integer(Int64(chosen.neverValid)),
        .integer(Int64(chosen.sameValue)), .integer(Int64(chosen.remaining)),
      ]
    ).answer()
  }

  /// Sends some and notes which ones the brokers took.
  private func send(
    _ places: [DeadLetterStore.Place], _ sender: DeadLetterSender, sentBefore: Int
  ) async throws -> Int {
    let page = try await request.read { try DeadLetterStore($0).uncounted(places) }
    let (taken, refusal) = try await Self.blocking { try sender.send(page) }
    let (context, resource) = (request.auditContext, resource)
    try await request.context.database.write { connection in
      try Administrator(connection, by: context).markRequeued(taken, resource: resource)
    }
    if let refusal {
      throw Problem.unavailable(
        "\(sentBefore + taken.count) were sent again, then the brokers took no more: \(refusal). "
          + "Ask again for the rest.", retryAfter: 10)
    }
    return taken.count
  }

  /// Runs what blocks on a thread of its own.
  private static func blocking<T: Sendable>(
    _ body: @escaping @Sendable () throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      _ = WorkerThread("dead-letters") { continuation.resume(with: Result { try body() }) }
    }
  }
}
