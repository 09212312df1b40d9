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
    abstract: "Backfill usage events from a web server's access log.",
    discussion: """
      Every line becomes one event of quantity 1 at the line's own time, however old it is. The \
      file is read twice: first to compute its digest and its oldest time, with which the batch is \
      registered in import_batch, and then to send it. The same file is refused a second time. An \
      import that was cut off is sent from its first line again with the same sequences, and the \
      aggregator drops what it has already, so that everything counts once. A file that has grown \
      is another file, so import only complete (rotated) logs. Lines that do not have the format \
      are reported with their number and counted by reason at the end. They do not affect other \
      lines. Ctrl-C stops the import, and the same command continues it.

      --license-from path reads a path like a web server: //x, /./x, /a/../x, /%78, \
      /x;jsessionid=1 and http://host/x all name the license x. An escape is decoded once. %2F and \
      invalid escapes reject the line. --license-from host and vhost drop the port and a trailing \
      dot, and use lower case. A byte order mark, and NULs before a line (in a log that was \
      rotated with copytruncate), are skipped.

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
        kafka, topic: Connections.usageTopic, command: "import-log", stopsAtRefusal: true,
        progress: progress)
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

  /// The other options that decide which event a line becomes. An import that goes on must have the
  /// same ones.
  private var options: JSON {
    [
      "license_from": .text(licenseFrom.rawValue), "meter": .text(meter),
      "oldest": .optional(oldest?.description),
    ]
  }

  /// Registers the batch before its first event is in the log.
  /// - Returns: its name.
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
        "the batch \(name) belongs to another file, \(known.fileName); choose another --batch")
    }
    if known.isFinished {
      throw Failure(
        """
        \(file) was already imported as batch \(known.name), finished at \(known.finishedAt ?? "?"): \
        nothing was sent
        """)
    }
    guard known.hasSameOptions, known.format == format.rawValue,
      batch.map(Identifier.init(_:)).map({ $0 == Identifier(known.name) }) ?? true
    else {
      throw Failure(
        """
        \(file) was begun at \(known.startedAt) as batch \(known.name) with other options; continue \
        with the same --format, --license-from, --meter, --oldest and --batch
        """)
    }
    Terminal.error("Continuing batch \(known.name), begun at \(known.startedAt)")
    return known.name
  }

  private static func plain(_ name: String) -> String {
    String(
      String.UnicodeScalarView(
        name.unicodeScalars.map { $0.value < 0x20 || $0.value > 0x7E ? "_" : $0 })
    ).prefix(100).description
  }
}
