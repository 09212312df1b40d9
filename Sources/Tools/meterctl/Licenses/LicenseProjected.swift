import Administration
import ArgumentParser
import Metering
import PostgresStore

extension License {
  /// `meterctl license projected`: shows which licenses will exceed a limit.
  struct Projected: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List licenses that will likely exceed a limit before its period ends.",
      discussion: """
        The estimate is made from the license's own weeks. The license that is furthest beyond its \
        limit comes first. Do not invoice these numbers.

        Example: meterctl license projected --customer cus_42
        """)

    @Option(help: "List only this customer's.")
    var customer: String?

    @Option(help: "The largest number to list, up to 1,000.")
    var limit = 100

    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard (1...ProjectedOverage.most).contains(limit) else {
        throw ValidationError("--limit must be from 1 to 1,000")
      }
    }

    func run() throws {
      let found = try ProjectedOverage.list(
        Connections().database("license-projected"), customer: customer, limit: limit)
      output.print(
        .array(found.map(Self.json)),
        text: found.isEmpty
          ? "no license is expected to exceed a limit"
          : Terminal.table(
            ["license", "customer", "meter", "period end", "used", "limit", "projected", "range"],
            found.map {
              [
                Terminal.printable($0.licenseID.string), Terminal.printable($0.customerID.string),
                $0.meter.string, Self.day($0.periodEnd), Terminal.grouped($0.used),
                Terminal.grouped($0.limit), Terminal.grouped($0.quantity),
                "\(Terminal.grouped($0.low)) to \(Terminal.grouped($0.high))",
              ]
            }, right: [4, 5, 6]))
    }

    private static func day(_ day: Int64) -> String {
      String(Moment(milliseconds: day * 86_400_000).description.prefix(10))
    }

    private static func json(_ row: ProjectedOverage) -> JSON {
      [
        "license_id": .text(row.licenseID.string), "customer_id": .text(row.customerID.string),
        "meter": .text(row.meter.string), "period_start": .text(day(row.periodStart)),
        "period_end": .text(day(row.periodEnd)), "used": .integer(row.used),
        "limit": .integer(row.limit), "projected_quantity": .integer(row.quantity),
        "projected_low": .integer(row.low), "projected_high": .integer(row.high),
        "projected_overage": .integer(row.overage),
      ]
    }
  }
}
