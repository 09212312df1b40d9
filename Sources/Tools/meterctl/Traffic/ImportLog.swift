import ArgumentParser
import Foundation
import KafkaTransport
import Metering
import PostgresStore
import Recount

extension AccessLogFormat: ExpressibleByArgument {}
extension LicenseSource: ExpressibleByArgument {}

struct ImportLog: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make usage events of a web server's access log: a backfill.",
    discussion: """
      Every line becomes one event of quantity 1 at the line's own time, however old. The file is \
      read twice: first for its digest and its oldest time, with which the batch is registered in \
      import_batch, then to send it. The same file again is refused; one that was cut off is sent \
      from its first line again, with the same sequences, and the aggregator drops what it has: it \
      counts once. A file that has grown is another file: import logs that are complete (rotated). \
      Lines that are none of the format are told with their number, and at the end counted by \
      reason; they lose nothing else. Ctrl-C ends it where it is; the same command goes on.

      --license-from path reads a path as a web server does: //x, /./x, /a/../x, /%78, \
      /x;jsessionid=1 and http://host/x all name the license x. An escape is decoded once; %2F, and \
      an escape that is none, reject the line. --license-from host and vhost drop the port and a \
      trailing dot, and use lower case. A byte order mark, and NULs before a line (a log that was \
      rotated with copytruncate), are skipped.

      The digest is a chain: SHA-256 of the digest so far and the next MiB of the file, computed by \
      PostgreSQL.

      Example: meterctl import-log access.log --format combined --license-from host
      """)

  @Argument(help: "The file.", completion: .file())
  var file: String

  @Option(help: "\(AccessLogFormat.allCases.map(\.rawValue).joined(separator: ", ")).")
  var format: AccessLogFormat

  @Option(
    help: ArgumentHelp(
      "The license's id: host (the client's address or name), path (first segment of the "
        + "request's path), vhost (with --format vhost_combined)."))
  var licenseFrom: LicenseSource

  @Option(help: "The batch's name (default: the file's name and its digest).")
  var batch: String?

  @Option(
    help: ArgumentHelp(
      "Lines older than this are rejected (default: the oldest line's time).", valueName: "rfc3339")
  )
  var oldest: Moment?

  @Option(help: "The meter to count.")
  var meter = "api_calls"

  @Option(
    help: ArgumentHelp(
      "Write all rejected lines to this file: number, reason and line, separated by tabs.",
      valueName: "file"))
  var badLines: String?

  @OptionGroup var output: OutputOptions

  func validate() throws {
    if licenseFrom == .vhost, format != .vhost_combined {
      throw ValidationError("--license-from vhost needs --format vhost_combined")
    }
    guard MeterName.isValid(meter) else {
      throw ValidationError("--meter must match [a-z][a-z0-9_]{0,63}")
    }
    if let batch {
      guard (1...200).contains(batch.utf8.count),
        batch.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
      else { throw ValidationError("--batch must have 1 to 200 bytes and no control characters") }
    }
  }

  func run() throws {
    Interrupt.install()
    let connections = Connections()
    let store = ImportStore(try connections.database("import-log"))
    let kafka = try connections.kafka()
    let rejected = try RejectedLines(file: badLines)

    let survey = try FileSurvey(self, store)
    guard try store.tryLock(fileHash: survey.hash) else {
      throw Failure("\(file) is being imported by another process now")
    }
    let name = try register(survey, store)
    let progress = Progress("Importing", unit: "lines", total: survey.lines)
    guard
      let sender = try EventSender(
        kafka, topic: Connections.usageTopic, command: "import-log", progress: progress)
    else { throw interrupted(name) }

    var run = ImportRun(batch: name, meter: meter, file: file)
    try run.send(self, survey, sender, store, rejected, progress)
    progress.finish(run.lines)
    rejected.finish()
    output.print(run.summary(rejected), text: run.text)
  }

  func interrupted(_ batch: String) -> Failure {
    Failure(
      "batch \(batch) is not complete; run the same command again to continue it, and every line still counts once"
    )
  }

  /// What else decides which event a line becomes: an import that goes on must have the same.
  private var options: JSON {
    [
      "license_from": .text(licenseFrom.rawValue), "meter": .text(meter),
      "oldest": .optional(oldest?.description),
    ]
  }

  /// The batch is in the database before its first event is in the log. - Returns: its name.
  private func register(_ survey: FileSurvey, _ store: ImportStore) throws -> String {
    let fileName = (file as NSString).lastPathComponent
    let name = batch ?? "\(Self.plain(fileName))-\(survey.hash.prefix(12))"
    guard
      let known = try store.find(
        fileHash: survey.hash, name: name, options: options.compact)
    else {
      try store.register(
        ImportStore.Batch(
          name: name, fileHash: survey.hash, fileName: fileName, format: format.rawValue,
          options: options.compact, oldestTime: survey.oldest.description,
          producer: "import:\(name)"))
      return name
    }
    guard known.fileHash == survey.hash else {
      throw Failure(
        "the batch \(name) is of another file, \(known.fileName); choose another --batch")
    }
    if known.isFinished {
      throw Failure(
        """
        \(file) was imported already, as batch \(known.name), finished at \(known.finishedAt ?? "?"): \
        nothing was sent
        """)
    }
    guard known.hasSameOptions, known.format == format.rawValue,
      batch.map(Identifier.init(_:)).map({ $0 == Identifier(known.name) }) ?? true
    else {
      throw Failure(
        """
        \(file) was begun at \(known.startedAt) as batch \(known.name) with other options; go on \
        with the same --format, --license-from, --meter, --oldest and --batch as then
        """)
    }
    Terminal.error("Going on with batch \(known.name), begun at \(known.startedAt)")
    return known.name
  }

  private static func plain(_ name: String) -> String {
    String(
      String.UnicodeScalarView(
        name.unicodeScalars.map { $0.value < 0x20 || $0.value > 0x7E ? "_" : $0 })
    ).prefix(100).description
  }
}

/// The first pass: the file's digest, how many lines it has and of what times.
private struct FileSurvey {
  private(set) var hash = ""
  private(set) var lines: Int64 = 0
  private(set) var oldest = Moment(milliseconds: 0)
  /// Lines later than this are no past: an hour is what the aggregator allows a clock to be wrong.
  let latest = Moment(milliseconds: Moment.now.milliseconds + 3_600_000)

  init(_ command: ImportLog, _ store: ImportStore) throws {
    hash = try Self.digest(command.file, store)
    let reader = try LineReader(
      path: command.file, maximumBytes: 1 << 20, skipsLeadingNULs: true)
    let progress = Progress("Reading", unit: "bytes", total: reader.fileBytes)
    var found: Int64?
    var firstRefusal = ""
    while let line = try reader.next() {
      lines += 1
      if lines & 1_023 == 0 {
        if Interrupt.isRequested { throw Failure("interrupted: nothing was sent") }
        progress.update(reader.bytesRead)
      }
      guard case .bytes(let bytes) = line else { continue }
      do throws(LogEvent.Refusal) {
        let event = try LogEvent.parse(
          bytes, format: command.format, licenseFrom: command.licenseFrom)
        found = min(found ?? .max, event.timeMilliseconds)
      } catch {
        if firstRefusal.isEmpty { firstRefusal = "; line \(lines): \(error)" }
      }
    }
    progress.finish(reader.bytesRead)
    guard let found else {
      throw Failure(
        "\(command.file) has no line of the format \(command.format.rawValue)\(firstRefusal)")
    }
    oldest = command.oldest ?? Moment(milliseconds: found)
  }

  private static func digest(_ path: String, _ store: ImportStore) throws -> String {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw Failure("\(path) cannot be read")
    }
    defer { try? handle.close() }  // Only read from: nothing can be lost.
    var link: [UInt8] = []
    while true {
      guard let chunk = try handle.read(upToCount: 1 << 20), !chunk.isEmpty else { break }
      link = try store.chain(link, Array(chunk))
      if Interrupt.isRequested { throw Failure("interrupted: nothing was sent") }
    }
    guard !link.isEmpty else { throw Failure("\(path) is empty") }
    return Hexadecimal.text(link)
  }
}

/// Lines that became no event: the first on stderr, all in a file if one is named.
private final class RejectedLines {
  private static let shown = 20
  private let handle: FileHandle?
  private(set) var count: Int64 = 0
  /// Few, because a reason never quotes the line.
  private var reasons: [String: Int64] = [:]

  /// The most frequent reason first.
  var byReason: [(reason: String, count: Int64)] {
    reasons.map { ($0.key, $0.value) }.sorted { ($1.count, $0.reason) < ($0.count, $1.reason) }
  }

  init(file: String?) throws {
    guard let file else {
      handle = nil
      return
    }
    guard FileManager.default.createFile(atPath: file, contents: nil),
      let handle = FileHandle(forWritingAtPath: file)
    else { throw Failure("\(file) cannot be written; --bad-lines names a file to make") }
    self.handle = handle
  }

  func add(_ number: Int64, _ reason: String, _ line: ArraySlice<UInt8>, _ progress: Progress)
    throws
  {
    count += 1
    reasons[reason, default: 0] += 1
    if count <= Self.shown { progress.say("line \(number): \(reason)") }
    guard let handle else { return }
    var text = Data("\(number)\t\(reason)\t".utf8)
    text.append(contentsOf: line)
    text.append(UInt8(ascii: "\n"))
    try handle.write(contentsOf: text)
  }

  func finish() {
    if count > Self.shown {
      Terminal.error(
        "… and \(count - Int64(Self.shown)) more lines rejected"
          + (handle == nil ? "; --bad-lines FILE writes all of them" : ""))
    }
    for (reason, count) in byReason {
      Terminal.error("rejected \(Terminal.grouped(count)): \(reason)")
    }
  }
}

/// The second pass.
private struct ImportRun {
  private(set) var lines: Int64 = 0
  private var events: Int64 = 0
  private var rejectedCount: Int64 = 0
  private var from: Int64?
  private var to: Int64?

  private let batch: String
  private let producer: String
  /// From `","source":` to `"subject":`, and so on.
  private let head: [UInt8]
  private let middle: [UInt8]
  private let tail: [UInt8]
  private let value = EventBytes(capacity: 16_384)

  init(batch: String, meter: String, file: String) {
    self.batch = batch
    producer = "import:\(batch)"
    func quoted(_ text: String) -> [UInt8] {
      let bytes = EventBytes(capacity: 4_096)
      bytes.append(quoted: text)
      return Array(bytes.bytes)
    }
    head =
      Array("\",\"source\":".utf8) + quoted("/import/\(batch)")
      + Array(",\"type\":\"license.usage.recorded\",\"subject\":".utf8)
    middle =
      Array("\",\"datacontenttype\":\"application/json\",\"import\":".utf8) + quoted(batch)
      + Array(",\"producer\":".utf8) + quoted(producer) + Array(",\"sequence\":".utf8)
    tail = Array(",\"data\":{\"meter\":\"\(meter)\",\"quantity\":1".utf8)
  }

  func summary(_ rejected: RejectedLines) -> JSON {
    [
      "batch": .text(batch), "lines": .integer(lines), "events": .integer(events),
      "rejected": .integer(rejectedCount),
      "rejected_by_reason": .object(rejected.byReason.map { ($0.reason, .integer($0.count)) }),
      "from": .optional(moment(from)),
      "to": .optional(moment(to)),
    ]
  }

  var text: String {
    """
    batch \(batch): \(Terminal.grouped(lines)) lines, \(Terminal.grouped(events)) events, \
    \(Terminal.grouped(rejectedCount)) rejected; from \(moment(from) ?? "-") to \(moment(to) ?? "-")
    """
  }

  private func moment(_ milliseconds: Int64?) -> String? {
    milliseconds.map { Moment(milliseconds: $0).description }
  }

  mutating func send(
    _ command: ImportLog, _ survey: FileSurvey, _ sender: EventSender, _ store: ImportStore,
    _ rejected: RejectedLines, _ progress: Progress
  ) throws {
    let reader = try LineReader(
      path: command.file, maximumBytes: 1 << 20, skipsLeadingNULs: true)
    let clock = ContinuousClock()
    var written = clock.now
    while let line = try reader.next() {
      lines += 1
      try one(line, command, survey, sender, rejected, progress)
      guard lines & 255 == 0 else { continue }
      if Interrupt.isRequested { throw command.interrupted(batch) }
      try sender.poll()
      progress.update(lines, note: sender.note)
      if written.duration(to: clock.now) > .seconds(5) {
        written = clock.now
        try store.update(batch, lines: lines, events: events, rejected: rejectedCount)
      }
    }
    try deliver(command, sender, progress)
    let report = ProducerReport(
      producer: producer, source: "/import/\(batch)", id: "report", accepted: events, pending: 0,
      dropped: 0, isFinal: true)
    report.write(to: value, now: Moment.now.milliseconds)
    let sent = try Array(producer.utf8).withUnsafeBytes {
      try sender.send(.other, key: $0, value: value.bytes)
    }
    guard sent else { throw command.interrupted(batch) }
    try deliver(command, sender, progress)
    try store.update(batch, lines: lines, events: events, rejected: rejectedCount, finished: true)
  }

  /// Until all is acknowledged.
  private func deliver(
    _ command: ImportLog, _ sender: EventSender, _ progress: Progress
  ) throws {
    let done = lines
    try sender.flush { progress.update(done, note: sender.note) }
    if let error = sender.firstError {
      throw Failure(
        "the brokers refused events for good (\(error)); batch \(batch) stays unfinished: the same command goes on"
      )
    }
  }

  private mutating func one(
    _ line: LineReader.Line, _ command: ImportLog, _ survey: FileSurvey, _ sender: EventSender,
    _ rejected: RejectedLines, _ progress: Progress
  ) throws {
    guard case .bytes(let bytes) = line else {
      rejectedCount += 1
      return try rejected.add(lines, "longer than 1 MiB", [], progress)
    }
    do {
      let event = try LogEvent.parse(
        bytes, format: command.format, licenseFrom: command.licenseFrom)
      guard event.timeMilliseconds >= survey.oldest.milliseconds else {
        throw LogEvent.Refusal("older than --oldest")
      }
      guard event.timeMilliseconds <= survey.latest.milliseconds else {
        throw LogEvent.Refusal("its time is in the future")
      }
      build(event)
      let sent = try Array(event.license.utf8).withUnsafeBytes {
        try sender.send(.event, key: $0, value: value.bytes)
      }
      guard sent else { throw command.interrupted(batch) }
      events += 1
      from = min(from ?? .max, event.timeMilliseconds)
      to = max(to ?? .min, event.timeMilliseconds)
    } catch let refusal as LogEvent.Refusal {
      rejectedCount += 1
      try rejected.add(lines, refusal.description, bytes, progress)
    }
  }

  private func build(_ event: LogEvent) {
    value.removeAll()
    value.append("{\"specversion\":\"1.0\",\"id\":\"")
    value.append(UInt64(lines))
    value.append(head)
    value.append(quoted: event.license)
    value.append(",\"time\":\"")
    value.append(time: event.timeMilliseconds)
    value.append(middle)
    value.append(UInt64(lines))
    value.append(tail)
    if let domain = event.domain, !domain.utf8.isEmpty, domain.utf8.count <= 512 {
      value.append(",\"domain\":")
      value.append(quoted: domain)
    }
    value.append("}}")
  }
}
