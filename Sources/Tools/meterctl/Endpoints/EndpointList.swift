import ArgumentParser
import PostgresStore

struct EndpointList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List endpoints in the order of their creation.",
    discussion: "Example: meterctl endpoint list --customer cus_42")

  @Option(help: "List only this customer's.")
  var customer: String?

  @Option(help: "The largest number of rows to list.")
  var limit = 1_000

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...1_000_000).contains(limit) else {
      throw ValidationError("--limit must be from 1 to 1,000,000")
    }
  }

  func run() throws {
    let found = try EndpointStore(Connections().database("endpoint")).list(
      customer: customer, limit: limit)
    output.print(
      .array(
        found.map {
          [
            "endpoint_id": .text($0.id), "customer_id": .optional($0.customer),
            "url": .text($0.url), "events": .array($0.events.map { .text($0) }),
            "status": .text($0.status), "disabled_reason": .optional($0.disabledReason),
            "signing": .text($0.signing),
            "consecutive_failures": .integer($0.consecutiveFailures),
            "failing_since": .optional($0.failingSince), "paused_until": .optional($0.openUntil),
            "created_at": .text($0.createdAt),
          ]
        }),
      text: found.isEmpty
        ? "no endpoints"
        : Terminal.table(
          ["endpoint", "customer", "status", "failures", "events", "url"],
          found.map {
            [
              $0.id, $0.customer ?? "(all)",
              $0.status + ($0.disabledReason.map { " (\($0))" } ?? ""),
              "\($0.consecutiveFailures)",
              $0.events.isEmpty ? "all" : $0.events.joined(separator: ","), $0.url,
            ]
          }, right: [3]))
  }
}
