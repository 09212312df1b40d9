import Billing
import HTTPTypes
import JSONText
import KafkaTransport
import LogAudit
import Metering
import PostgresStore
import Recount
import ServiceRuntime

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

  /// The place of an event in the log, as a cursor has it.
  private struct Place: Sendable {
    let partition: Int32
    let offset: Int64

    init?(_ values: [String]) {
      guard values.count == 2, let partition = Int32(values[0]), let offset = Int64(values[1])
      else { return nil }
      self.partition = partition
      self.offset = offset
    }
  }

  private static func answer(
    _ request: APIRequest, _ readings: LogReadings
  ) async throws -> APIAnswer {
    let asked = try asked(request)
    try await request.requireLicense(asked.license)
    let signer = try await request.context.cursorSigner()
    var after: Place?
    if let cursor = asked.list.cursor {
      let place = signer.read(cursor, scope: request.cursorScope).flatMap { Place($0) }
      guard let place else { throw Problem.badCursor }
      after = place
    }
    if request.wantsCSV(asked.list.format) {
      return try await csv(asked, readings, request.caller, after)
    }
    let limit = asked.list.limit ?? asked.list.defaultLimit
    let page = try await readings.run(for: request.caller) { [after] connection, reader in
      try read(connection, reader, readings, asked, limit: limit, after: after)
    }
    return APIRequest.json(
      page, columns: columns,
      next: page.next.map { signer.write($0, scope: request.cursorScope) },
      quotesQuantities: asked.list.quotesQuantities)
  }

  /// How many events of a file are in memory together. The log is read again for each such part, so
  /// a smaller number costs more.
  private static let csvRows = 10_000
  /// How long a part of a file waits for other requests that read the log.
  private static let csvPatience = Duration.seconds(30)

  /// Answers all events. No reading of the log is held while a slow client takes a part.
  private static func csv(
    _ asked: Asked, _ readings: LogReadings, _ caller: Caller, _ after: Place?
  ) async throws -> APIAnswer {
    @Sendable func part(
      _ left: Int, _ after: Place?, _ patience: Duration
    ) async throws -> (bytes: [UInt8], count: Int, next: Place?) {
      try await readings.run(for: caller, patience: patience) { connection, reader in
        let page = try read(
          connection, reader, readings, asked, limit: min(left, csvRows), after: after)
        var bytes: [UInt8] = []
        for row in page.rows { CSVText.append(row, to: &bytes) }
        return (bytes, page.rows.count, page.next.flatMap { Place($0) })
      }
    }
    let limit = asked.list.limit ?? .max
    // Every refusal must happen before the answer begins.
    let first = try await part(limit, after, .zero)
    return APIAnswer(
      type: "text/csv; charset=utf-8; header=present",
      headers: [.contentDisposition: "attachment; filename=\"events.csv\""]
    ) { writer in
      try await writer.write(CSVText.header(columns) + first.bytes)
      var (left, next) = (limit - first.count, first.next)
      while left > 0, let place = next {
        let found = try await part(left, place, csvPatience)
        try await writer.write(found.bytes)
        (left, next) = (left - found.count, found.next)
      }
    }
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
    if let from, let to, from >= to { fields.blame("to", "It must be later than from.") }
    try fields.finish()
    guard let license, let from, let to else { throw Problem.notFound }
    let range = try UsageParameters.answerable(from: from, to: to, now: WallClock.milliseconds)
    return Asked(
      license: license, meter: meter,
      minutes: UsageReads.Minutes(
        from: floorDivide(range.from, 60), to: floorDivide(range.to, 60)),
      list: list)
  }

  /// Runs on the thread of a log reading.
  private static func read(
    _ connection: PostgresConnection, _ reader: LogReader, _ readings: LogReadings,
    _ asked: Asked, limit: Int, after: Place?
  ) throws -> ListPage {
    var explained = try Explained.take(
      connection, group: LogWatch.group, topic: LogWatch.topic, license: asked.license.string,
      meter: asked.meter?.string, range: asked.minutes)
    explained.bounds.offsets = LogReadings.mostOffsets
    explained.bounds.lines = limit + 1
    explained.bounds.after = after.map { ($0.partition, $0.offset) }
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
