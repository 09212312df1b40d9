import Administration
import ArgumentParser
import JSONText
import Licensing
import Metering
import PostgresStore

extension License {
  struct Update: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Change a license. Everything that is not named stays as it is.",
      discussion: """
        The change is checked like a line of an import, and is all or nothing. --feature, --domain \
        and --threshold can be repeated, and together replace the whole list. --limit changes the \
        limit of one meter and leaves the others. Validations use the new terms within a second, \
        and a limit is compared with the usage so far. A new --anchor-day takes effect at its \
        first date after today, which makes one short period. A token that was issued before keeps \
        the old terms until it is issued again, but the registered license overrides its token.

        Examples: meterctl license update lic_abc123 --plan enterprise --limit apiCalls=1000000 --seats 50
                  meterctl license update lic_abc123 --domain example.com --domain '*.example.org'
                  meterctl license update lic_abc123 --limit exports=none --expires 2028-01-01
        """)

    @Argument(help: "The license's id.")
    var id: String

    @Option(help: "The product that was bought.")
    var plan: String?

    @Option(
      name: .customLong("feature"),
      help: "A feature it unlocks. Repeat for each; the list replaces the old one.")
    var features: [String] = []

    @Flag(help: "Remove all features.")
    var noFeatures = false

    @Option(
      name: .customLong("domain"),
      help: "A domain it is valid for. Repeat for each; the list replaces the old one.")
    var domains: [String] = []

    @Option(
      name: .customLong("limit"),
      help: "A limit such as apiCalls=50000 for a meter, or apiCalls=none for no limit.")
    var limits: [LimitChange] = []

    @Option(help: "The number of seats, or none for no limit.")
    var seats: Bound?

    @Option(help: "When it expires, as RFC 3339. A date alone means midnight UTC.")
    var expires: Moment?

    @Option(help: "What happens beyond a limit: block or allow.")
    var overage: Overage?

    @Option(
      name: .customLong("threshold"),
      help: "A percentage of a limit that raises an alert. Repeat for each.")
    var thresholds: [Int64] = []

    @Flag(help: "Raise no alerts about limits.")
    var noThresholds = false

    @Option(help: "The day of the month, 1 to 31, on which a billing period begins.")
    var anchorDay: Int64?

    @Flag(
      inversion: .prefixedNo, help: "Whether it is a trial, which has no grace period when it ends."
    )
    var trial: Bool?

    @OptionGroup var output: OutputOptions

    enum Overage: String, ExpressibleByArgument, CaseIterable {
      case block
      case allow
    }

    /// For example `apiCalls=50000` or `exports=none`.
    struct LimitChange: ExpressibleByArgument {
      var name: String
      var bound: Bound

      init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, let bound = Bound(argument: String(parts[1]))
        else { return nil }
        name = String(parts[0])
        self.bound = bound
      }
    }

    /// A number, or `none`.
    enum Bound: ExpressibleByArgument {
      case none
      case most(Int64)

      init?(argument: String) {
        if argument == "none" {
          self = .none
        } else if let number = Int64(argument) {
          self = .most(number)
        } else {
          return nil
        }
      }

      var json: JSON {
        switch self {
        case .none: .null
        case .most(let number): .integer(number)
        }
      }
    }

    func validate() throws {
      guard
        plan != nil || !features.isEmpty || noFeatures || !domains.isEmpty || !limits.isEmpty
          || seats != nil || expires != nil || overage != nil || !thresholds.isEmpty
          || noThresholds || anchorDay != nil || trial != nil
      else { throw ValidationError("name at least one change, such as --plan or --limit") }
      if !features.isEmpty, noFeatures {
        throw ValidationError("give --feature or --no-features, not both")
      }
      if !thresholds.isEmpty, noThresholds {
        throw ValidationError("give --threshold or --no-thresholds, not both")
      }
      if limits.contains(where: { $0.name == "seats" }) {
        throw ValidationError("use --seats for the number of seats")
      }
      let meters = limits.map { Identifier(LicenseLine.meter($0.name)) }
      if Set(meters).count < meters.count {
        throw ValidationError("the same meter is given twice with --limit")
      }
    }

    func run() throws {
      let administrator = try Connections().administrator("license-update")
      let patch = JSON.object(changes)
      let isChanged = try License.changing {
        do {
          return try administrator.updateLicense(
            id, patch: JSONReader.parse(Array(patch.compact.utf8))
          ).isChanged
        } catch let refusal as AdministrationRefusal where refusal.kind == .invalid {
          throw Failure("nothing was changed: \(refusal)")
        }
      }
      let rows = try LicenseStore(administrator.connection).licenses(id: id, limit: 1)
      output.print(
        .object(License.members(rows, 0)),
        text: isChanged ? "the license was changed" : "the license already has these terms")
    }

    /// A JSON Merge Patch of the given options.
    private var changes: [(String, JSON)] {
      var changes: [(String, JSON)] = []
      func set(_ name: String, _ value: JSON?) {
        if let value { changes.append((name, value)) }
      }
      func list(_ items: [String], isEmptied: Bool) -> JSON? {
        items.isEmpty && !isEmptied ? nil : .array(items.map { .text($0) })
      }
      set("plan", plan.map { .text($0) })
      set("features", list(features, isEmptied: noFeatures))
      set("domains", list(domains, isEmptied: false))
      set("expires_at", expires.map { .text($0.description) })
      set("overage_policy", overage.map { .text($0.rawValue) })
      set(
        "alert_thresholds",
        thresholds.isEmpty && !noThresholds ? nil : .array(thresholds.map { .integer($0) }))
      set("billing_anchor_day", anchorDay.map { .integer($0) })
      set("trial", trial.map { .boolean($0) })
      let bounds =
        limits.map { ($0.name, $0.bound.json) } + (seats.map { [("seats", $0.json)] } ?? [])
      if !bounds.isEmpty { changes.append(("limits", .object(bounds))) }
      return changes
    }
  }
}
