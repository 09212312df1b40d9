import ArgumentParser
import Billing
import Metering
import PostgresStore
import ServiceRuntime
import StripeExport

/// `meterctl export stripe`: sends usage by customer, meter and hour as meter events.
struct StripeExportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stripe", abstract: "Send usage to Stripe, by customer, meter and hour.",
    discussion: """
      Only complete hours are sent, and only for customers with a stripe_customer_id. The others \
      are listed. If the answer to an event was lost, it is sent again under its identifier or, \
      after a day, compared with Stripe's own sums, so that it counts once. If the export was cut \
      off, run it again. METER_STRIPE_API_KEY and METER_STRIPE_METERS say where usage goes.

      Exit status: 0 everything that could be sent was sent; 1 somebody must look at something, \
      such as a credit or a refused event; 2 wrong usage; 3 failed.

      Example: METER_STRIPE_METERS=api_calls=api_calls meterctl export stripe --dry-run
      """)

  @Option(
    help:
      ArgumentHelp(
        "How the growth of an hour is sent.",
        discussion: """
          sum: as a further event. replace: the whole hour again, for meters with an event time \
          window of an hour.
          """)
  )
  var mode = StripeMode.sum

  @Option(help: "Only hours that end by this time (default: every complete hour).")
  var through: Moment?

  @Flag(help: "Only show what would be sent. Nothing is stored or sent.")
  var dryRun = false

  @OptionGroup var output: OutputOptions

  func run() async throws {
    let connections = Connections()
    let stripe = try connections.stripe()
    let needsLog = try connections.hasBrokers()
    let database = try await connections.exportDatabase("export-stripe")
    let bar = Bar()
    let exporter = StripeExporter(database: database, client: StripeClient(stripe)) {
      bar.update($0, $1, $2)
    }
    let report: StripeExportReport
    do {
      report = try await exporter.export(
        mode: mode, through: through?.milliseconds, needsLog: needsLog, isDryRun: dryRun,
        by: Connections.operatorContext, waitSeconds: 600)
      bar.finish()
    } catch let refusal as StripeExportRefusal {
      bar.finish()
      throw Failure("\(refusal)")
    }
    output.print(json(report), text: text(report))
    if let problem = report.problem {
      throw Failure("\(problem); what was not sent is kept: run it again")
    }
    if StripeExportReport.told.contains(where: { report.count($0) > 0 }) || report.pending > 0 {
      throw Ending.difference
    }
  }

  /// One progress bar for each step.
  private final class Bar: @unchecked Sendable {
    // The exporter calls it from one task at a time.
    private var title = ""
    private var done: Int64 = 0
    private var bar: Progress?

    func update(_ done: Int64, _ total: Int64, _ title: String) {
      if title != self.title {
        finish()
        self.title = title
        bar = Progress(title, unit: "events", total: total > 0 ? total : nil)
      }
      self.done = done
      bar?.update(done)
    }

    func finish() {
      bar?.finish(done)
      bar = nil
    }
  }

  // MARK: Telling

  private func json(_ report: StripeExportReport) -> JSON {
    var members: [(String, JSON)] = [
      ("mode", .text(report.mode.rawValue)),
      ("through", .text(TimeText.write(report.through))),
      ("complete_through", .text(TimeText.write(report.completeThrough))),
      ("dry_run", .boolean(dryRun)), ("planned", .integer(report.planned)),
      ("planned_quantity", .integer(report.plannedQuantity)), ("sent", .integer(report.sent)),
      ("pending", .integer(report.pending)),
    ]
    members += StripeExportReport.told.map { ($0.rawValue, .integer(report.count($0))) }
    members.append(("unlinked_customers", .array(report.unlinkedCustomers.map { .text($0) })))
    if dryRun { members.append(("events", .array(report.listed.map(Self.json)))) }
    return .object(members)
  }

  private static func json(_ event: StripeEvent) -> JSON {
    [
      "customer_id": .text(event.customer.string),
      "stripe_customer_id": .text(event.stripeCustomerID), "meter": .text(event.meter),
      "event_name": .text(event.eventName), "hour": .text(TimeText.write(event.hour * 1_000)),
      "value": .integer(event.value), "identifier": .text(event.identifier),
    ]
  }

  private func text(_ report: StripeExportReport) -> String {
    let events = Terminal.count(report.planned, "event")
    var lines = [
      dryRun
        ? "\(events) would be sent, of \(Terminal.grouped(report.plannedQuantity)) in all, "
          + "with hours through \(TimeText.write(report.through))"
        : "\(Terminal.count(report.sent, "event")) sent (\(Terminal.grouped(report.planned)) new), with hours through "
          + TimeText.write(report.through)
    ]
    for event in report.listed.prefix(20) {
      lines.append(
        "  \(TimeText.write(event.hour * 1_000))  \(event.customer)  \(event.meter)  "
          + Terminal.grouped(event.value))
    }
    if report.listed.count > 20 { lines.append("  … --json shows up to 1,000 of them") }
    if report.pending > 0 {
      lines.append("left for the next export: \(Terminal.count(report.pending, "event"))")
    }
    for status in StripeExportReport.told where report.count(status) > 0 {
      lines.append("\(Terminal.count(report.count(status), "hour")): \(status.meaning)")
    }
    if !report.unlinkedCustomers.isEmpty {
      let shown = report.unlinkedCustomers.prefix(10).joined(separator: ", ")
      lines.append("without a stripe_customer_id: \(shown)")
    }
    return lines.joined(separator: "\n")
  }
}

extension StripeMode: ExpressibleByArgument {}

extension StripeStatus {
  /// What the outcome means, and what to do.
  fileprivate var meaning: String {
    switch self {
    case .pending: "they wait for the next export"
    case .sent: "Stripe has them"
    case .credit:
      "Stripe has more than was counted; give a credit (GET /v1/exports?status=credit)"
    case .unlinked:
      "their customers have no stripe_customer_id; see: meterctl customer update --stripe-customer"
    case .tooOld:
      "they are older than 35 days, and Stripe no longer accepts them; invoice them in another way"
    case .tooLarge: "they have more than 15 digits; invoice them in another way"
    case .shared: "several customers have one stripe_customer_id; export them with --mode sum"
    case .refused: "Stripe refused them (GET /v1/exports?status=refused says why)"
    case .unsettled:
      "no answer came, and Stripe's sum fits neither case; see: meterctl reconcile stripe"
    }
  }
}

extension Connections {
  /// - Throws: `Failure` if no key is set.
  func stripe() throws -> StripeSettings {
    guard let stripe = try StripeSettings(settings) else {
      throw Failure("set METER_STRIPE_API_KEY, or METER_STRIPE_API_KEY_FILE, to a secret key")
    }
    return stripe
  }

  func hasBrokers() throws -> Bool { try settings[DeclaredSettings.optionalKafkaBrokers] != nil }

  func exportDatabase(_ command: String) async throws -> StripeDatabase {
    try await StripeDatabase.open {
      try Connections().database(command, statementTimeoutMilliseconds: 300_000)
    }
  }
}
