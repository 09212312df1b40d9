import ArgumentParser
import Foundation
import Metering
import PostgresStore
import ServiceRuntime

/// `meterctl periods …`: lists billing periods and closes them.
struct Periods: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List, preview and close billing periods.",
    subcommands: [List.self, Preview.self, Close.self])

  /// The value of `METER_CLOSE_GRACE`, read like metering-api does.
  static func graceSeconds() throws -> Int64 {
    Int64(try Settings()[DeclaredSettings.closeGrace] / 1_000)
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List periods, ordered by license, meter and beginning.",
      discussion: "Example: meterctl periods list --status due --customer cus_42")

    @Option(help: "List only periods that are open, due (ended, with their grace over) or closed.")
    var status: String?

    @Option(help: "Only periods of this customer.")
    var customer: String?

    @Option(help: "Only periods of this license.")
    var license: String?

    @Option(help: "Only periods that end on or before this day in UTC, such as 2026-12-01.")
    var endingBefore: Moment?

    @Option(help: "The largest number to list.")
    var limit = 100

    @Option(help: ArgumentHelp("Begin after this period.", valueName: "period"))
    var after: String?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard (1...100_000).contains(limit) else {
        throw ValidationError("--limit must be from 1 to 100,000")
      }
      if let status, PeriodStore.Status(rawValue: status) == nil {
        throw ValidationError("--status must be open, due or closed")
      }
      if let after, PeriodID(after) == nil {
        throw ValidationError("--after must be the id of a period")
      }
    }

    func run() throws {
      let filter = PeriodStore.Filter(
        status: status.flatMap(PeriodStore.Status.init(rawValue:)),
        customer: customer.map(Identifier.init(_:)), license: license.map(Identifier.init(_:)),
        endingBefore: endingBefore.map(Periods.day), graceSeconds: try Periods.graceSeconds())
      let connection = try Connections().database(
        "periods-list", statementTimeoutMilliseconds: 300_000)
      let found = try PeriodStore(connection).periods(
        filter, after: after.flatMap { PeriodID($0) }, limit: limit + 1)
      let shown = Array(found.prefix(limit))
      let next = found.count > limit ? shown.last?.id.text : nil
      output.print(
        ["data": .array(shown.map(Self.json)), "next": .optional(next)],
        text: shown.isEmpty ? "no such periods" : Self.table(shown))
      if let next, !output.json {
        Terminal.error("note: there are more: --after '\(Terminal.printable(next))'")
      }
    }

    private static func json(_ period: PeriodStore.Period) -> JSON {
      [
        "period_id": .text(period.id.text), "license_id": .text(period.license.string),
        "customer_id": .optional(period.customer?.string), "meter": .text(period.meter),
        "period_start": .text(Moment(milliseconds: period.start).description),
        "period_end": .text(Moment(milliseconds: period.end).description),
        "status": .text(period.status.rawValue), "quantity": .integer(period.quantity),
        "event_count": .integer(period.eventCount),
        "closed_at": .optional(period.closedAt.map { Moment(milliseconds: $0).description }),
        "included": .optional(period.included), "overage": .optional(period.overage),
        "late_quantity": .integer(period.lateQuantity),
        "late_event_count": .integer(period.lateEventCount),
      ]
    }

    private static func table(_ periods: [PeriodStore.Period]) -> String {
      Terminal.table(
        ["LICENSE", "METER", "BEGINS", "ENDS", "STATUS", "QUANTITY", "INCLUDED", "OVER", "LATE"],
        periods.map { period in
          [
            period.license.string, period.meter,
            Periods.day(Moment(milliseconds: period.start)),
            Periods.day(Moment(milliseconds: period.end)), period.status.rawValue,
            Terminal.grouped(period.quantity), period.included.map { Terminal.grouped($0) } ?? "",
            period.overage.map { Terminal.grouped($0) } ?? "",
            Terminal.grouped(period.lateQuantity),
          ]
        }, right: [5, 6, 7, 8])
    }
  }

  static func day(_ moment: Moment) -> String { String(moment.description.prefix(10)) }

  /// - Throws: `Failure` if there is no such customer. Otherwise a typing error would look like a
  ///   close of everything.
  static func checkCustomer(_ customer: String?, _ connection: PostgresConnection) throws {
    guard let customer else { return }
    guard try StatementStore(connection).knows(Identifier(customer)) else {
      throw Failure("there is no such customer; see: meterctl customer list")
    }
  }

  private static let looks = 50

  /// Reads the obstacles to a close, from one snapshot.
  ///
  /// - Parameter only: the one period to close; nil for all.
  static func preview(
    _ connection: PostgresConnection, endingBefore: String, customer: String?,
    only: PeriodStore.Period? = nil
  ) throws -> ClosePreview {
    let store = ClosePreviewStore(connection)
    var question = ClosePreviewStore.Question(
      endingBefore: endingBefore, customer: customer.map(Identifier.init(_:)),
      graceSeconds: try graceSeconds(), completeThrough: nil)
    func look() throws -> ClosePreview {
      try connection.transaction("begin transaction isolation level repeatable read read only") {
        question.completeThrough = try store.completeThrough(question)
        return try store.preview(question, onlyEnd: only?.end)
      }
    }
    // Each producer must be seen once without events on the way. While events flow, some
    // producers always have some.
    for _ in 0..<looks {
      let preview = try look()
      guard preview.waitsForEventsOnly else { return preview }
      question.inFlightBefore = preview.inFlight
      Thread.sleep(forTimeInterval: 0.2)
    }
    return try look()
  }

  struct Preview: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show what a close would close, and what prevents it.",
      discussion: """
        The exit status is 1 if something prevents the close.

        Example: meterctl periods preview --ending-before 2026-12-01
        """)

    @Option(help: "Only periods that end on or before this day in UTC, such as 2026-12-01.")
    var endingBefore: Moment

    @Option(help: "Only periods of this customer.")
    var customer: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
      let connection = try Connections().database(
        "periods-preview", statementTimeoutMilliseconds: 300_000)
      try Periods.checkCustomer(customer, connection)
      let preview = try Periods.preview(
        connection, endingBefore: Periods.day(endingBefore), customer: customer)
      output.print(
        [
          "ready": .boolean(preview.isReady), "blockers": Periods.json(preview.blockers),
          "warnings": Periods.json(preview.warnings), "periods": .integer(preview.periods),
          "by_meter": .array(
            preview.byMeter.map { meter in
              [
                "meter": .text(meter.meter), "quantity": Self.number(meter.quantity),
                "overage": Self.number(meter.overage),
              ]
            }),
        ], text: Self.text(preview))
      if !preview.isReady { throw Ending.difference }
    }

    private static func number(_ value: Int128) -> JSON {
      Int64(exactly: value).map { .integer($0) } ?? .text(String(value))
    }

    private static func text(_ preview: ClosePreview) -> String {
      var lines = ["\(Terminal.count(preview.periods, "period")) can be closed"]
      lines += preview.byMeter.map {
        "  \($0.meter): \(Terminal.grouped($0.quantity)), of it \(Terminal.grouped($0.overage)) over the limits"
      }
      lines += preview.blockers.map { "blocker \($0.code): \($0.detail)" }
      lines += preview.warnings.map { "warning \($0.code): \($0.detail)" }
      if preview.isReady { lines.append("nothing prevents the close") }
      return lines.joined(separator: "\n")
    }
  }

  static func json(_ notices: [ClosePreview.Notice]) -> JSON {
    .array(notices.map { ["code": .text($0.code), "detail": .text($0.detail)] })
  }
}
