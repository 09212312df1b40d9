import ArgumentParser
import ServiceRuntime

/// The operator's tool. Exit codes: 0 done, 1 found a difference, 2 wrong usage, 3 failed, 4 proved
/// nothing.
@main
struct Meterctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "meterctl",
    abstract: "The operator's tool for License Metering.",
    discussion: """
      \(ProgramSettings.meterctl.help)

      Exit status: 0 done, 1 found a difference, 2 wrong usage, 3 failed, 4 proved nothing.

      Example: meterctl migrate && meterctl topics apply
      """,
    version: BuildInfo.line("meterctl"),
    subcommands: [
      Migrate.self, Topics.self, License.self, Customer.self, Key.self, Token.self, Spool.self,
      Load.self, ImportLog.self,
      Reconcile.self,
      Explain.self, Periods.self, Adjust.self, StatementCommand.self, Export.self, Status.self,
      DeadLetters.self, Endpoint.self, Deliveries.self, AuditLog.self, Backtest.self,
    ])

  static func main() async { await Ending.run(Self.self) }
}
