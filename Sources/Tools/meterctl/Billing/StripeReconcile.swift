import ArgumentParser
import Billing
import Metering
import StripeExport

/// `meterctl reconcile stripe`: compares Stripe's own sums with what was exported.
struct StripeReconcile: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stripe", abstract: "Compare every exported hour with Stripe's own sums.",
    discussion: """
      Stripe checks events after it has accepted them, and sums them up within minutes. Events \
      that it dropped later, such as those of a deleted customer, show here. Differences in the \
      last hour may disappear by themselves.

      --repair accepts Stripe's numbers as what was sent, for hours that were settled more than an \
      hour ago and that belong to one customer only. The next export then sends what Stripe lacks, \
      and lists a surplus as a credit.

      Exit status: 0 equal; 1 differences; 2 wrong usage; 3 failed.

      Example: meterctl reconcile stripe --from 2026-11-01 --to 2026-12-01
      """)

  @Option(help: "Compare hours that begin at this time or later, such as 2026-11-23T18:00:00Z.")
  var from: Moment?

  @Option(help: "Compare hours that end by this time.")
  var to: Moment?

  @Option(help: "How many differences to list. All of them are counted.")
  var maxDifferences = 50

  @Flag(help: "Accept Stripe's numbers, so that the next export sends what Stripe lacks.")
  var repair = false

  @OptionGroup var output: OutputOptions

  func validate() throws {
    for (name, moment) in [("--from", from), ("--to", to)] {
      if let moment, moment.milliseconds % 3_600_000 != 0 {
        throw ValidationError("\(name) must be a whole hour, because usage is exported by the hour")
      }
    }
    if let from, let to, from >= to { throw ValidationError("--from must be before --to") }
    guard maxDifferences >= 0 else { throw ValidationError("--max-differences must be 0 or more") }
  }

  func run() async throws {
    let connections = Connections()
    let client = StripeClient(try connections.stripe())
    let database = try await connections.exportDatabase("reconcile-stripe")
    let bar = Progress("Comparing", unit: "hours", total: nil)
    let report: StripeReconciler.Report
    do {
      report = try await StripeReconciler(database: database, client: client).run(
        from: from.map { $0.milliseconds / 1_000 }, to: to.map { $0.milliseconds / 1_000 },
        maxDifferences: maxDifferences, isRepairing: repair, by: Connections.operatorContext
      ) { bar.update($0) }
      bar.finish(report.hours)
    } catch let refusal as StripeExportRefusal {
      bar.finish(0)
      throw Failure("\(refusal)")
    }
    output.print(Self.json(report), text: Self.text(report))
    if report.different > report.repaired { throw Ending.difference }
  }

  private static func json(_ report: StripeReconciler.Report) -> JSON {
    [
      "hours": .integer(report.hours), "equal": .integer(report.equal),
      "different": .integer(report.different), "repaired": .integer(report.repaired),
      "differences": .array(
        report.differences.map { one in
          [
            "event_name": .text(one.eventName), "stripe_customer_id": .text(one.stripeCustomerID),
            "customer_id": .optional(one.customer?.string), "meter": .optional(one.meter),
            "hour": .text(TimeText.write(one.hour * 1_000)), "sent_quantity": .integer(one.sent),
            "doubtful_quantity": .integer(one.doubtful), "stripe_quantity": .optional(one.stripe),
            "recent": .boolean(one.isRecent), "repaired": .boolean(one.isRepaired),
          ]
        }),
    ]
  }

  private static func text(_ report: StripeReconciler.Report) -> String {
    var lines = [
      report.different == 0
        ? "equal: \(Terminal.count(report.hours, "hour"))"
        : "\(Terminal.grouped(report.different)) of \(Terminal.grouped(report.hours)) hours differ"
    ]
    for one in report.differences {
      var line = "  \(TimeText.write(one.hour * 1_000))  \(one.customer?.string ?? "-")  "
      line += "\(one.stripeCustomerID)  \(one.eventName)  sent \(Terminal.grouped(one.sent)), "
      line += "Stripe has \(one.stripe.map { Terminal.grouped($0) } ?? "no whole number")"
      if one.doubtful > 0 { line += ", without an answer \(Terminal.grouped(one.doubtful))" }
      if one.isRecent { line += " (sent within the last hour: Stripe may still be adding)" }
      if one.isRepaired { line += " (accepted; the next export sends the rest)" }
      lines.append(line)
    }
    if report.different > Int64(report.differences.count) {
      lines.append("  … --max-differences shows more of them")
    }
    return lines.joined(separator: "\n")
  }
}
