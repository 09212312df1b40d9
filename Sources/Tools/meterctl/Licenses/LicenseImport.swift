import Administration
import ArgumentParser
import DomainNames
import JSONText
import Licensing
import Metering
import PostgresStore

struct License: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Import, look at, change, issue, suspend and cancel licenses.",
    discussion: "Example: meterctl license import licenses.jsonl && meterctl license list",
    subcommands: [
      Import.self, Show.self, List.self, Update.self, Issue.self, Suspend.self, Resume.self,
      Cancel.self, Unregistered.self, Projected.self,
    ])
}

extension License {
  struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create and change licenses from a file with one JSON object per line.",
      discussion: """
        The import is all or nothing: if any line is bad, nothing is imported, and the bad lines \
        are listed. Missing customers are created. A line describes the whole license: limits that \
        it does not name end. Only billing_anchor_day, trial, overage_policy and alert_thresholds \
        stay as they are if they are absent. A new billing_anchor_day takes effect at its first \
        date after today, which makes one short period. Importing the same file again changes \
        nothing. A line may have up to 64 KiB, and empty lines are skipped.

          {"license_id":"lic_abc123","customer_id":"cus_42","plan":"professional",
           "features":["analytics"],"domains":["example.com","*.example.com"],
           "limits":{"apiCalls":50000,"seats":10},"status":"active",
           "issued_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z",
           "billing_anchor_day":15}      (on one line)

        Example: meterctl license import licenses.jsonl
        """)

    @Argument(help: "The file.", completion: .file(extensions: ["jsonl"]))
    var file: String

    @OptionGroup var output: OutputOptions

    private static let batchLines = 1_000
    private static let listedLines = 20

    func run() throws {
      let lines = try LineReader(path: file, copiesPipes: true)
      guard let rules = PublicSuffixList.shared else {
        throw Failure(
          "libpsl finds no Public Suffix List; on Debian, run: apt-get install publicsuffix")
      }
      let connection = try Connections().database("license-import")
      let progress = Progress("Importing", unit: "bytes", total: lines.fileBytes)
      var state = ImportState(rules: rules)
      do {
        try connection.transaction {
          let store = LicenseStore(connection)
          try store.lockForImport()
          var batch: [LicenseLine] = []
          while let line = try lines.next() {
            if let license = state.check(line, lines.number) { batch.append(license) }
            // The rest of the file is still checked for bad lines, although nothing will be kept.
            if batch.count == Self.batchLines {
              if state.bad.isEmpty { state.add(try store.upsert(batch)) }
              batch.removeAll(keepingCapacity: true)
              progress.update(lines.bytesRead)
            }
          }
          if !state.bad.isEmpty { throw state.failure(file, listed: Self.listedLines) }
          if !batch.isEmpty { state.add(try store.upsert(batch)) }
          try state.record(file, connection)
        }
      } catch {
        progress.finish(lines.bytesRead)
        throw error
      }
      progress.finish(lines.bytesRead)
      if !state.unknown.isEmpty {
        let names = state.unknown.sorted { $0.key < $1.key }.prefix(20)
          .map { "\($0.key) (line \($0.value))" }
        Terminal.error("note: unknown fields were ignored: \(names.joined(separator: ", "))")
      }
      let counts = state.counts
      output.print(
        [
          "created": .int(counts.created), "changed": .int(counts.changed),
          "unchanged": .int(counts.unchanged),
        ],
        text: "\(counts.created) licenses created, \(counts.changed) changed, "
          + "\(counts.unchanged) unchanged")
    }
  }
}

/// What an import has seen so far.
private struct ImportState {
  let rules: PublicSuffixList
  var counts = LicenseStore.Counts()
  /// The first bad lines in full. The others are only counted.
  var bad: [(line: Int64, reason: String)] = []
  var badCount = 0
  /// Unknown members, with the line where each was first seen.
  var unknown: [Identifier: Int64] = [:]
  private var lineOfLicense: [Identifier: Int64] = [:]

  init(rules: PublicSuffixList) { self.rules = rules }

  mutating func check(_ line: LineReader.Line, _ number: Int64) -> LicenseLine? {
    do {
      guard case .bytes(let bytes) = line else {
        throw LicenseLine.Invalid("", "longer than 64 KiB")
      }
      if bytes.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { return nil }
      let license = try LicenseLine(Array(bytes), rules: rules)
      if let earlier = lineOfLicense.updateValue(number, forKey: license.licenseID) {
        throw LicenseLine.Invalid("license_id", "is already on line \(earlier)")
      }
      for name in license.unknown where unknown.count < 100 && unknown[name] == nil {
        unknown[name] = number
      }
      return license
    } catch {
      badCount += 1
      if bad.count < 20 { bad.append((number, String(describing: error))) }
      return nil
    }
  }

  mutating func add(_ other: LicenseStore.Counts) {
    counts.created += other.created
    counts.changed += other.changed
    counts.unchanged += other.unchanged
  }

  /// Writes one row for the whole file. The file itself shows which licenses it changed.
  func record(_ file: String, _ connection: PostgresConnection) throws {
    let counts: JSON = [
      "created": .int(counts.created), "changed": .int(counts.changed),
      "unchanged": .int(counts.unchanged),
    ]
    try AuditStore(connection).record(
      AuditedChange("license.import", "license_file", file, after: counts.compact),
      by: Connections.operatorContext)
  }

  func failure(_ file: String, listed: Int) -> Failure {
    var lines = bad.prefix(listed).map { "line \($0.line): \($0.reason)" }
    if badCount > lines.count { lines.append("… and \(badCount - lines.count) more") }
    return Failure(
      "\(file): nothing was imported; correct these lines first\n" + lines.joined(separator: "\n"))
  }
}
