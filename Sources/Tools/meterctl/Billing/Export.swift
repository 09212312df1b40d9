import ArgumentParser
import Billing
import Metering
import PostgresStore

/// `meterctl export`: exports usage as CSV, or to Stripe.
struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write usage as CSV on stdout, or send it to Stripe.",
    discussion: """
      Without a subcommand it writes CSV: meterctl export --from 2026-11-01 --to 2026-12-01.

      Example: meterctl export stripe --mode sum --dry-run
      """,
    subcommands: [UsageExport.self, StripeExportCommand.self], defaultSubcommand: UsageExport.self)
}

/// `meterctl export usage`: writes usage as CSV, from one snapshot and in constant memory.
struct UsageExport: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "usage", abstract: "Write usage as CSV on stdout. This is the default of export.",
    discussion: """
      Writes one line for each license, meter and day (or for the whole range), from one snapshot. \
      Days are in UTC, and --to is the day after the last one.

      Example: meterctl export --from 2026-11-01 --to 2026-12-01 --customer cus_42 > november.csv
      """)

  enum Window: String, CaseIterable, ExpressibleByArgument {
    case day
    case total
  }

  @Option(help: "The first day in UTC, such as 2026-11-01.")
  var from: Moment

  @Option(help: "The day after the last one in UTC, such as 2026-12-01.")
  var to: Moment

  @Option(help: "Only this license. Repeat for several.")
  var license: [String] = []

  @Option(help: "Only this customer. Repeat for several.")
  var customer: [String] = []

  @Option(help: "Only this meter. Repeat for several.")
  var meter: [String] = []

  @Option(help: "One line for each day, or one for the whole range.")
  var window = Window.day

  private static let dayMilliseconds: Int64 = 86_400_000
  private static let mostDays: Int64 = 3_660
  private static let columns = [
    "license_id", "customer_id", "meter", "window_start", "window_end", "quantity", "event_count",
  ]

  func validate() throws {
    guard from.milliseconds % Self.dayMilliseconds == 0, to.milliseconds % Self.dayMilliseconds == 0
    else { throw ValidationError("--from and --to must be whole days in UTC") }
    guard from < to, (to.milliseconds - from.milliseconds) / Self.dayMilliseconds <= Self.mostDays
    else {
      throw ValidationError("--to must be later than --from, by \(Self.mostDays) days at most")
    }
    guard (license + customer + meter).allSatisfy({ !$0.utf8.contains(0) }) else {
      throw ValidationError("an id must not contain NUL")
    }
  }

  func run() throws {
    let days = from.milliseconds / Self.dayMilliseconds..<to.milliseconds / Self.dayMilliseconds
    let bounds = (window == .day ? Array(days) : [days.lowerBound]) + [days.upperBound]
    var question = UsageStore.Question(
      windows: .bounds(
        UsageStore.Runs(days: [days], hours: [], minutes: [], bounds: bounds.map { $0 * 86_400 })))
    question.licenses = license.map(Identifier.init(_:))
    question.customers = customer.map(Identifier.init(_:))
    question.meters = meter.map(Identifier.init(_:))
    question.byCustomer = true
    let connection = try Connections().database("export", statementTimeoutMilliseconds: 300_000)
    try connection.transaction("begin transaction isolation level repeatable read read only") {
      let store = UsageStore(connection)
      try store.open(question)
      write(CSVText.header(Self.columns))
      while true {
        let rows = try store.nextRows(Self.page)
        var bytes: [UInt8] = []
        for row in rows { CSVText.append(Self.cells(row, bounds), to: &bytes) }
        write(bytes)
        if rows.count < Self.page { return }
      }
    }
  }

  private static let page = 5_000

  private func write(_ bytes: [UInt8]) {
    print(String(decoding: bytes, as: UTF8.self), terminator: "")
  }

  private static func cells(_ row: UsageStore.Row, _ bounds: [Int64]) -> [Cell] {
    let window = Int(row.window)
    return [
      .optional(row.license), .optional(row.customer), .optional(row.meter),
      .time(bounds[window] * dayMilliseconds), .time(bounds[window + 1] * dayMilliseconds),
      .quantity(row.quantity), .integer(row.eventCount),
    ]
  }
}
