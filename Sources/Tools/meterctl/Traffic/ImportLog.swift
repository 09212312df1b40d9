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
