import ArgumentParser
import PostgresStore

extension License {
  struct Unregistered: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List the usage of unregistered licenses.",
      discussion: """
        The usage of such a license is counted, but nobody is billed for it. It may be a typing \
        error, a license that was not imported yet, or somebody who guesses. Licenses are listed \
        in the order of their ids; --after continues after the last one shown.

        Example: meterctl license unregistered --from 2026-11-01 --limit 50
        """)

    @Option(help: "The largest number of licenses to list.")
    var limit = 100

    @Option(help: ArgumentHelp("Begin after this license id.", valueName: "license"))
    var after: String?

    @Option(help: "The first day in UTC, such as 2026-11-01.")
    var from: Moment?

    @Option(help: "The day after the last one in UTC, such as 2026-12-01.")
    var to: Moment?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard (1...100_000).contains(limit) else {
        throw ValidationError("--limit must be from 1 to 100,000")
      }
      for (name, moment) in [("--from", from), ("--to", to)] {
        if let moment, moment.milliseconds % 86_400_000 != 0 {
          throw ValidationError("\(name) must be a whole day, because this is summed by day")
        }
      }
      if after?.utf8.contains(0) == true { throw ValidationError("--after must not contain NUL") }
    }

    func run() throws {
      let connection = try Connections().database(
        "license-unregistered", statementTimeoutMilliseconds: 900_000)
      let page = try UnregisteredStore(connection).page(
        after: after, limit: limit, from: from.map(Self.day), to: to.map(Self.day))
      let last = page.remaining > 0 ? page.rows.last?.license : nil
      output.print(
        [
          "licenses": .array(Self.grouped(page.rows)),
          "total_licenses": .integer(page.licenses),
          "total_events": .integer(page.eventCount),
          "next_after": .optional(last),
        ],
        text: page.rows.isEmpty ? "no usage of unregistered licenses" : Self.table(page.rows))
      if page.remaining > 0, let last, !output.json {
        Terminal.error(
          "note: \(Terminal.grouped(page.remaining)) more licenses: --after '\(Terminal.printable(last))'"
        )
      }
    }

    private static func day(_ moment: Moment) -> String { String(moment.description.prefix(10)) }

    /// Makes one object for each license. Its rows are adjacent.
    private static func grouped(_ rows: [UnregisteredStore.Row]) -> [JSON] {
      var found: [(license: String, meters: [JSON])] = []
      for row in rows {
        let meter: JSON = [
          "meter": .text(row.meter),
          "quantity": Int64(row.quantity).map { .integer($0) } ?? .text(row.quantity),
          "event_count": .integer(row.eventCount), "first_day": .text(row.firstDay),
          "last_day": .text(row.lastDay),
        ]
        if let last = found.last, last.license.utf8.elementsEqual(row.license.utf8) {
          found[found.count - 1].meters.append(meter)
        } else {
          found.append((row.license, [meter]))
        }
      }
      return found.map { ["license_id": .text($0.license), "meters": .array($0.meters)] }
    }

    private static func table(_ rows: [UnregisteredStore.Row]) -> String {
      Terminal.table(
        ["license", "meter", "quantity", "events", "first day", "last day"],
        rows.map {
          [
            Terminal.printable($0.license), $0.meter,
            Int64($0.quantity).map { Terminal.grouped($0) } ?? $0.quantity,
            Terminal.grouped($0.eventCount), $0.firstDay, $0.lastDay,
          ]
        }, right: [2, 3])
    }
  }
}
