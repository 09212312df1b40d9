import ArgumentParser
import PostgresStore

struct Deliveries: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "deliveries", abstract: "Deliveries of alerts to webhook endpoints.",
    discussion: "Example: meterctl deliveries list --status failed",
    subcommands: [DeliveriesList.self, DeliveriesRedeliver.self, DeliveriesRecover.self])
}

struct DeliveriesList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List deliveries, the newest first.",
    discussion: "Example: meterctl deliveries list --endpoint ep_0123 --status failed --json")

  @Option(help: "Only of this endpoint.")
  var endpoint: String?

  @Option(help: "Only pending, delivered, failed or discarded ones.")
  var status: Status?

  @Option(help: "At most so many.")
  var limit = 50

  @OptionGroup var output: OutputOptions

  enum Status: String, ExpressibleByArgument, CaseIterable {
    case pending
    case delivered
    case failed
    case discarded
  }

  func validate() throws {
    guard (1...1_000_000).contains(limit) else { throw ValidationError("--limit: 1 to 1,000,000") }
  }

  func run() throws {
    let found = try EndpointStore(Connections().database("deliveries")).deliveries(
      endpoint: endpoint, status: status?.rawValue, limit: limit)
    output.print(
      .array(
        found.map {
          [
            "delivery_id": .integer($0.id), "webhook_id": .text($0.webhookID),
            "endpoint_id": .text($0.endpoint), "type": .text($0.type),
            "license_id": .optional($0.license), "status": .text($0.status),
            "attempts": .integer($0.attempts), "next_attempt_at": .optional($0.nextAttemptAt),
            "created_at": .text($0.createdAt), "last_status_code": .optional($0.lastStatusCode),
            "last_error": .optional($0.lastError),
          ]
        }),
      text: found.isEmpty
        ? "no deliveries"
        : Terminal.table(
          ["delivery", "created", "endpoint", "type", "status", "attempts", "next", "last answer"],
          found.map {
            [
              "\($0.id)", $0.createdAt, $0.endpoint, $0.type, $0.status, "\($0.attempts)",
              $0.nextAttemptAt ?? "-",
              $0.lastError ?? $0.lastStatusCode.map(String.init) ?? "-",
            ]
          }, right: [0, 5]))
  }
}

struct DeliveriesRedeliver: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "redeliver", abstract: "Send one delivery again, under the same webhook-id.",
    discussion: "Example: meterctl deliveries redeliver 4711")

  @Argument(help: "The delivery.") var id: Int64

  func run() throws {
    guard try EndpointStore(Connections().database("deliveries")).redeliver(id) else {
      throw Failure("there is no delivery \(id), or its endpoint is disabled")
    }
    print("pending")
  }
}

struct DeliveriesRecover: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover",
    abstract: "Send everything again that an endpoint missed in a span: failed and discarded.",
    discussion: """
      Example: meterctl deliveries recover ep_0123 --since 2026-11-01 --until 2026-11-08
      """)

  @Argument(help: "The endpoint.") var endpoint: String
  @Option(help: "The first moment.") var since: Moment
  @Option(help: "Up to here, exclusive.") var until: Moment = .now
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard since < until else { throw ValidationError("--since must be before --until") }
  }

  func run() throws {
    let store = EndpointStore(try Connections().database("deliveries"))
    guard let found = try store.list(id: endpoint, limit: 1).first else {
      throw Endpoint.noSuch(endpoint)
    }
    guard found.status == "active" else {
      throw Failure("the endpoint is disabled; first: meterctl endpoint enable \(endpoint)")
    }
    let count = try store.recover(
      endpoint, sinceMilliseconds: since.milliseconds, untilMilliseconds: until.milliseconds)
    output.print(
      ["recovered": .int(count)], text: "\(Terminal.grouped(count)) deliveries are pending again")
  }
}
