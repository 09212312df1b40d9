import ArgumentParser
import ServiceRuntime

/// The operator's tool. Exit codes: 0 done, 1 found a difference, 2 wrong usage, 3 failed.
@main
struct Meterctl: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "meterctl",
    abstract: "License metering's operator tool: schema, topics, licenses, traffic, proofs.",
    discussion: """
      Connects by the environment; each variable may be given as NAME_FILE instead, a file that \
      holds the value:
        METER_KAFKA_BROKERS      host:port,…
        METER_KAFKA_CONFIG_FILE  a properties file of librdkafka settings (TLS, SASL), optional
        METER_DATABASE_URL       libpq URI, such as postgresql://user@host/database
        METER_SIGNING_KEY        a JWK set; for license issue
      Exit status: 0 done, 1 found a difference, 2 wrong usage, 3 failed.

      Example: meterctl migrate && meterctl topics apply
      """,
    version: BuildInfo.line("meterctl"),
    subcommands: [
      Migrate.self, Topics.self, License.self, Customer.self, Key.self, Token.self, Spool.self,
      Load.self, ImportLog.self,
      Reconcile.self,
      Explain.self, Status.self, DeadLetters.self, Endpoint.self,
      Deliveries.self, AuditLog.self, Backtest.self,
    ])

  static func main() async { await Ending.run(Self.self) }
}
