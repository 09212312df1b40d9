import Administration
import Billing
import Foundation
import HTTPTypes
import KafkaTransport
import Metering
import PostgresStore
import ServiceRuntime
import Synchronization

/// `POST /v1/dead-letters/requeue` sends dead letters to their topics again, at most 1,000 per
/// request.
struct DeadLetterRequeue {
  private static let most = 1_000
  /// Only one request runs at a time, because two would send the same dead letters.
  private static let isUnderway = Atomic<Bool>(false)

  private let request: APIRequest
  private let filter: DeadLetterStore.Filter
  private let again: Bool
  /// The chosen dead letters, as the audit log names them.
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
      body.blame("topic", "Give topic, partition and log_offset together.")
    } else if (all ? 1 : 0) + (reason == nil ? 0 : 1) + (isPlace ? 1 : 0) != 1 {
      body.blame("all", "Give exactly one of all, reason, or topic with partition and log_offset.")
    }
    try body.finish()
    filter = DeadLetterStore.Filter(
      reason: reason, topic: topic, partition: partition, offset: offset, logEpoch: epoch)
    // A dead letter that is named is sent even if it was sent before.
    self.again = again || isPlace
    resource =
      isPlace
      ? "\(epoch.map(String.init) ?? "*")/\(topic ?? "")/\(partition ?? 0)/\(offset ?? 0)"
      : reason ?? "all"
  }

  func run() async throws -> APIAnswer {
    if let earlier = try await request.earlierAnswer() { return earlier }
    guard let configuration = try request.context.settings.kafka() else {
      throw Problem(
        .serviceUnavailable, "no_kafka",
        "Dead letters are sent to Kafka. Set METER_KAFKA_BROKERS for metering-api.")
    }
    guard !Self.isUnderway.exchange(true, ordering: .relaxed) else {
      throw Problem.conflict(
        "requeue_underway", "Another request is sending dead letters. Try again later.")
    }
    defer { Self.isUnderway.store(false, ordering: .relaxed) }
    let (filter, again) = (filter, again)
    let chosen = try await request.read {
      try DeadLetterStore($0).requeueable(filter, again: again, limit: Self.most)
    }
    var sent = 0
    if !chosen.letters.isEmpty {
      let sender = try await Self.blocking {
        try DeadLetterSender(configuration, clientID: "metering-api-dead-letters")
      }
      for start in stride(from: 0, to: chosen.letters.count, by: DeadLetterSender.pageRows) {
        let end = min(start + DeadLetterSender.pageRows, chosen.letters.count)
        sent += try await send(Array(chosen.letters[start..<end]), sender, sentBefore: sent)
      }
    }
    let answer = Resource(
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
    return try await request.write { _ in answer }
  }

  /// Sends some dead letters and records which ones the brokers took.
  private func send(
    _ letters: [DeadLetterStore.Name], _ sender: DeadLetterSender, sentBefore: Int
  ) async throws -> Int {
    let page = try await request.read { try DeadLetterStore($0).uncounted(letters) }
    let (taken, refusal) = try await Self.blocking { try sender.send(page) }
    let (context, resource) = (request.auditContext, resource)
    try await request.context.database.write { connection in
      try Administrator(connection, by: context).markRequeued(taken, resource: resource)
    }
    if let refusal {
      throw Problem.unavailable(
        "\(sentBefore + taken.count) dead letters were sent. Then the brokers refused: \(refusal). "
          + "Repeat the request to send the rest.", retryAfter: 10)
    }
    return taken.count
  }

  /// Runs blocking code on its own thread.
  private static func blocking<T: Sendable>(
    _ body: @escaping @Sendable () throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      _ = WorkerThread("dead-letters") { continuation.resume(with: Result { try body() }) }
    }
  }
}
