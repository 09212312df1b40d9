import Billing
import JSONText
import Metering
import PostgresStore
import ServiceRuntime

/// `GET /v1/status` says whether everything is counted, as `meterctl status` does.
enum StatusEndpoint {
  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/status", .usageRead) { request in
        try request.caller.requireVendor()
        try request.finishQuery()
        let snapshot = try await request.read { try StatusAnswer($0) }
        return APIAnswer.object { snapshot.write(to: &$0, look: context.watch.look) }
      }
    ]
  }
}

/// How far the usage is counted, as PostgreSQL knows it.
struct StatusAnswer: Sendable {
  private let asOf: Int64
  private let completeThrough: Int64?
  private let groups: [UsageReads.GroupOffsets]
  private let pendingRows: Int64
  private let deadLetters: [(reason: String, total: Int64, open: Int64)]
  private let missing: Int64
  private let inFlight: Int64
  private let producers: Int64
  private let halts: [PartitionHaltStore.Halt]
  private let quarantined: Int
  private let deliveries: WebhookStore.Backlog

  init(_ connection: PostgresConnection) throws {
    let reads = UsageReads(connection)
    asOf = try reads.serverMilliseconds()
    completeThrough = try ProgressStore(connection).completeThrough()
    groups = try reads.groupOffsets()
    pendingRows = try reads.pendingRows()
    deadLetters = try DeadLetterStore(connection).counts()
    let ledger = try reads.ledgerRows(limit: 1)
    missing = ledger.missing
    inFlight = ledger.inFlight
    producers = ledger.total
    halts = try PartitionHaltStore(connection).halts()
    quarantined = try reads.quarantined().count
    deliveries = try WebhookStore(connection).backlog()
  }

  func write(to json: inout JSONWriter, look: LogWatch.Look) {
    json.member("as_of", TimeText.write(asOf))
    json.member("complete_through", cell: .optionalTime(completeThrough))
    json.member("lag", cell: .optional(look.lag))
    json.member("kafka", cell: .optional(look.problem))
    json.member("missing", missing)
    json.member("in_flight", inFlight)
    json.member("producers", producers)
    json.member("pending_rows", pendingRows)
    json.member("quarantined_licenses", Int64(quarantined))
    json.name("dead_letters")
    writeDeadLetters(to: &json)
    json.name("halted_partitions")
    json.beginArray()
    for halt in halts { write(halt, to: &json) }
    json.endArray()
    json.name("deliveries")
    writeDeliveries(to: &json)
  }

  private func writeDeadLetters(to json: inout JSONWriter) {
    json.beginObject()
    json.member("total", deadLetters.reduce(0) { $0 + $1.total })
    json.member("open", deadLetters.reduce(0) { $0 + $1.open })
    json.name("by_reason")
    json.beginObject()
    for row in deadLetters { json.member(row.reason, row.total) }
    json.endObject()
    json.endObject()
  }

  private func write(_ halt: PartitionHaltStore.Halt, to json: inout JSONWriter) {
    json.beginObject()
    json.member("consumer_group", halt.group)
    json.member("topic", halt.topic)
    json.member("partition", Int64(halt.partition))
    json.member("reason", halt.reason)
    json.member("remedy", cell: .optional(halt.remedy))
    json.member("since", cell: .optional(halt.since))
    json.endObject()
  }

  private func writeDeliveries(to json: inout JSONWriter) {
    json.beginObject()
    json.member("pending", deliveries.pending)
    json.member(
      "oldest_due_seconds", cell: .number((deliveries.oldestDueSeconds * 1_000).rounded() / 1_000))
    json.name("endpoints")
    json.beginObject()
    json.member("closed", deliveries.closed)
    json.member("failing", deliveries.failing)
    json.member("open", deliveries.open)
    json.member("disabled", deliveries.disabled)
    json.endObject()
    json.endObject()
  }
}
