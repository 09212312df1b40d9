import Billing
import JSONText
import Metering
import PostgresStore

/// `/v1/dead-letters` shows which records were not counted, and why. Only the vendor sees them,
/// because it is unknown whose they are.
enum DeadLetterEndpoints {
  static let columns = [
    "log_epoch", "topic", "partition", "log_offset", "consumer_group", "reason", "detail",
    "payload_bytes", "received_at", "forwarded_at", "requeued_at", "counted_at", "status",
  ]

  static func cells(_ found: DeadLetterStore.DeadLetter) -> [Cell] {
    [
      .integer(Int64(found.place.logEpoch)), .text(found.place.topic),
      .integer(Int64(found.place.partition)), .integer(found.place.offset), .text(found.group),
      .text(found.reason), .text(found.detail), .optional(found.payloadBytes),
      .text(found.receivedAt), .optional(found.forwardedAt), .optional(found.requeuedAt),
      .optional(found.countedAt), .text(status(found)),
    ]
  }

  private static func status(_ found: DeadLetterStore.DeadLetter) -> String {
    found.countedAt != nil ? "counted" : found.requeuedAt != nil ? "requeued" : "open"
  }

  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/dead-letters", .usageRead) { try await list($0) },
      .get("/v1/dead-letters/{log_epoch}/{topic}/{partition}/{log_offset}", .usageRead) {
        request in
        try request.caller.requireVendor()
        try request.finishQuery()
        let filter = DeadLetterStore.Filter(
          topic: try request.id("topic"), partition: try int32("partition", request),
          offset: try request.number("log_offset"), logEpoch: try int32("log_epoch", request))
        let found = try await request.read {
          try DeadLetterStore($0).list(filter, limit: 1, withPayload: true).first
        }
        guard let found else { throw Problem.notFound }
        return Resource(
          columns, cells(found),
          more: [
            ("key", found.key.map(readable) ?? .null),
            ("payload", found.payload.map(readable) ?? .null),
          ]
        ).answer()
      },
      .post("/v1/dead-letters/requeue", .admin) { request in
        try request.caller.requireVendor()
        return try await DeadLetterRequeue(request).run()
      },
    ]
  }

  private static func int32(_ name: String, _ request: APIRequest) throws -> Int32 {
    guard let value = Int32(exactly: try request.number(name)) else { throw Problem.notFound }
    return value
  }

  /// Writes `{"text":…}` if the bytes are UTF-8, and `{"hex":…}` otherwise.
  private static func readable(_ bytes: [UInt8]) -> Cell {
    var json = JSONWriter()
    json.beginObject()
    if let text = String(validating: bytes, as: UTF8.self) {
      json.member("text", text)
    } else {
      json.member("hex", Hexadecimal.text(bytes))
    }
    json.endObject()
    return .json(json.bytes)
  }

  private static func list(_ request: APIRequest) async throws -> APIAnswer {
    try request.caller.requireVendor()
    var fields = try request.query
    let window = fields.listWindow()
    let filter = DeadLetterStore.Filter(
      reason: fields.choice("reason", RejectionReason.self)?.rawValue,
      topic: fields.text("topic", atMost: 249),
      partition: fields.integer("partition", in: 0...Int64(Int32.max)).map { Int32($0) })
    let status = fields.choice("status", of: ["open", "requeued", "counted"])
    try fields.finish()
    return try await request.list(window, "dead-letters", columns: columns) { connection, start in
      let found = try DeadLetterStore(connection).page(
        filter, status: status, after: start.after, limit: start.limit + 1)
      return ListPage(
        rows: found.prefix(start.limit).map { cells($0.deadLetter) },
        next: found.count > start.limit ? found[start.limit - 1].key : nil)
    }
  }
}
