import Billing
import HTTPTypes
import JSONText
import KafkaTransport
import LogAudit
import Metering
import PostgresStore
import Recount

/// `GET /v1/usage/events` reads the events behind a number back from the log, with the code of
/// `meterctl explain`.
enum UsageEventsEndpoint {
  private static let columns = [
    "log_epoch", "partition", "offset", "id", "source", "time", "received_at", "quantity", "domain",
    "feature", "status",
  ]

  static func routes(_ context: APIContext) -> [Route] {
    let readings = LogReadings(settings: context.settings)
    return [
      .get("/v1/usage/events", .usageRead) { try await answer($0, readings) },
      .get("/v1/events/{id}", .usageRead) { try await EventEndpoint.answer($0, readings) },
    ]
  }

  private struct Asked: Sendable {
    let license: Identifier
    let meter: Identifier?
    let minutes: UsageReads.Minutes
    let list: ListWindow
  }

  private static func answer(
    _ request: APIRequest, _ readings: LogReadings
  ) async throws -> APIAnswer {
    let asked = try asked(request)
    try await request.requireLicense(asked.license)
    let signer = try await request.context.cursorSigner()
    var after: (partition: Int32, offset: Int64)?
    if let cursor = asked.list.cursor {
      guard let values = signer.read(cursor, scope: request.cursorScope), values.count == 2,
        let partition = Int32(values[0]), let offset = Int64(values[1])
      else { throw Problem.badCursor }
      after = (partition, offset)
    }
    let limit = asked.list.limit ?? asked.list.defaultLimit
    let page = try await readings.run { [after] connection, reader in
      try read(connection, reader, readings, asked, limit: limit, after: after)
    }
    if request.wantsCSV(asked.list.format) {
      var bytes = CSVText.header(columns)
      for row in page.rows { CSVText.append(row, to: &bytes) }
      return APIAnswer(
        type: "text/csv; charset=utf-8; header=present",
        headers: [.contentDisposition: "attachment; filename=\"events.csv\""], bytes: bytes)
    }
    return APIRequest.json(
      page, columns: columns,
      next: page.next.map { signer.write($0, scope: request.cursorScope) },
      quotesQuantities: asked.list.quotesQuantities)
  }

  private static func asked(_ request: APIRequest) throws -> Asked {
    var fields = try request.query
    let license = fields.identifier("license_id")
    let meter = fields.meter("meter")
    let from = fields.time("from")
    let to = fields.time("to")
    let list = fields.listWindow()
    for (name, isAbsent) in [
      ("license_id", license == nil), ("from", from == nil), ("to", to == nil),
    ] where isAbsent && !fields.errors.contains(where: { $0.parameter == name }) {
      fields.blame(name, "It is required.")
    }
    for (name, time) in [("from", from), ("to", to)] {
      if let time, time % 60_000 != 0 {
        fields.blame(name, "It must be a whole minute, since usage is kept by the minute.")
      }
    }
    if let from, let to, from >= to { fields.blame("to", "It must be later than from.") }
    try fields.finish()
    guard let license, let from, let to else { throw Problem.notFound }
    return Asked(
      license: license, meter: meter,
      minutes: UsageReads.Minutes(from: floorDivide(from, 60_000), to: floorDivide(to, 60_000)),
      list: list)
  }

  /// Runs on the thread of a log reading.
  private static func read(
    _ connection: PostgresConnection, _ reader: LogReader, _ readings: LogReadings,
    _ asked: Asked, limit: Int, after: (partition: Int32, offset: Int64)?
  ) throws -> ListPage {
    var explained = try Explained.take(
      connection, group: LogWatch.group, topic: LogWatch.topic, license: asked.license.string,
      meter: asked.meter?.string, range: asked.minutes)
    explained.bounds.offsets = LogReadings.mostOffsets
    explained.bounds.lines = limit + 1
    explained.bounds.after = after
    explained.bounds.deadline = .now + .seconds(LogReadings.seconds)
    var settings = readings.recountSettings
    settings.importBatches = explained.stored.importBatches
    settings.refusedForAge = explained.stored.refusedForAge
    let windows = explained.stored.windows
    settings.windows = { windows[$0] ?? [] }
    let recount = LogRecount(
      reader: reader, topic: LogWatch.topic, stored: explained.stored, settings: settings,
      requeues: Requeues(connection, topic: LogWatch.topic, explained.stored),
      checkpoints: AuditCheckpointStore(
        connection, group: LogWatch.group, topic: LogWatch.topic))
    do {
      try explained.read(recount, knowsSequences: false) { _, _ in }
      // This repeats what `meterctl explain` does. Older records reveal more repetitions.
      if explained.status == .different, explained.couldReadMore {
        try explained.read(recount, knowsSequences: true) { _, _ in }
      }
    } catch let error as Explained.Beyond {
      throw Problem(error)
    }
    let provable = try provableFrom(explained.lows, reader)
    if let gap = explained.notProvable.first(where: \.isLoss) {
      throw Problem(gap, provableFrom: provable)
    }
    let shown = explained.lines.prefix(limit)
    return ListPage(
      rows: shown.map(cells),
      next: explained.lines.count > limit
        ? shown.last.map { [String($0.partition), String($0.offset)] } : nil,
      members: [
        ("provable_from", .optionalTime(provable)),
        ("matches", .boolean(explained.status != .different)),
      ])
  }

  private static func cells(_ line: Explained.Line) -> [Cell] {
    [
      .integer(Int64(line.logEpoch)), .integer(Int64(line.partition)), .integer(line.offset),
      .text(line.event.id), .text(line.event.source), .time(line.event.timeMilliseconds),
      .optionalTime(line.recordTime < 0 ? nil : line.recordTime), .quantity(line.event.quantity),
      .optional(line.event.domain), .optional(line.event.feature),
      .text(line.duplicate == nil ? "counted" : "duplicate"),
    ]
  }

  private struct First: Error { let time: Int64 }

  /// The time of the first record that still exists, in the partition that reaches back least far.
  private static func provableFrom(_ lows: [Int32: Int64], _ reader: LogReader) throws -> Int64? {
    var latest: Int64?
    for (partition, low) in lows {
      let place = TopicPartition(topic: LogWatch.topic, partition: partition)
      let high = try reader.watermarks(place).high
      do {
        try reader.read(place, from: low, to: min(low + 1_000, high)) { view in
          throw First(time: view.timestamp)
        }
      } catch let first as First {
        if first.time >= 0 { latest = max(latest ?? first.time, first.time) }
      }
    }
    return latest
  }
}

extension Problem {
  fileprivate init(_ beyond: Explained.Beyond) {
    switch beyond {
    case .offsets(let count):
      self = .badParameter(
        "to", "The events lie among \(count) offsets of the log. Ask for a shorter time.")
    case .time: self = .unavailable("Reading took too long. Ask for a shorter time.", retryAfter: 5)
    }
  }

  fileprivate init(_ gap: Explained.Gap, provableFrom: Int64?) {
    let time = provableFrom.map { TimeText.write($0) }
    self.init(
      .gone, "not_provable",
      "The log no longer holds these events."
        + (time.map { " It reaches back to \($0)." } ?? "") + " " + gap.description + ".",
      members: [("provable_from", time.map { Array("\"\($0)\"".utf8) } ?? Array("null".utf8))])
  }
}

extension APIRequest {
  /// - Throws: 404 if the caller is bound to a customer, and the license belongs to another
  ///   customer.
  func requireLicense(_ id: Identifier) async throws {
    guard caller.customerID != nil else { return }
    let found = try await read { try UsageStore($0).customers(of: [id]) }
    // The answer is the same for another customer's license and for one that does not exist, so
    // that ids cannot be probed.
    guard found.first?.customer == caller.customerID else { throw Problem.notFound("license") }
  }
}
