import Administration
import ArgumentParser
import JSONText
import PostgresStore
import ServiceRuntime
import WebhookDelivery

struct Endpoint: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "endpoint",
    abstract: "List, add and change webhook endpoints, which receive alerts.",
    discussion: """
      Example: meterctl endpoint add --customer cus_42 --url https://example.com/hooks --events license.limit_exceeded
      """,
    subcommands: [
      EndpointAdd.self, EndpointList.self, EndpointUpdate.self, EndpointEnable.self,
      EndpointDisable.self,
      EndpointDelete.self, EndpointTest.self, EndpointRotateSecret.self,
    ])

  static func noSuch(_ id: String) -> Failure {
    Failure("there is no endpoint \(id); meterctl endpoint list shows those there are")
  }

  /// The rules for URLs, from the same settings as the dispatcher's.
  static func rules(_ settings: Settings = Settings()) throws -> EndpointRules {
    do {
      return EndpointRules(
        policy: try TargetAddressPolicy(
          cidrs: settings[DeclaredSettings.webhookAllowCIDRs]),
        allowsHTTP: try settings[DeclaredSettings.webhookAllowHTTP],
        box: try settings[DeclaredSettings.optionalEncryptionKey].map {
          try SecretBox(base64Key: $0)
        })
    } catch let error as SecretBox.Invalid {
      throw Failure("\(error)")
    }
  }

  /// Runs a change. If the endpoint does not exist, the error says where to look.
  static func changing<T>(_ body: (Administrator) throws -> T) throws -> T {
    let administrator = try Connections().administrator("endpoint")
    do {
      return try body(administrator)
    } catch let refusal as AdministrationRefusal where refusal.code == "not_found" {
      throw Failure("\(refusal); meterctl endpoint list shows those there are")
    } catch let refusal as AdministrationRefusal where refusal.errors.first?.parameter == "url" {
      throw Failure("--\(refusal)")
    }
  }

  static func types(_ events: String) -> [String] {
    events.split(separator: ",").map(String.init)
  }

  static func checkTypes(_ events: String) throws {
    for event in types(events) where event != "*" && !AlertType.known.contains(event) {
      throw ValidationError("--events must be one of \(AlertType.known.joined(separator: ", "))")
    }
  }
}

extension SigningSecret.Scheme: ExpressibleByArgument {}

struct EndpointAdd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add", abstract: "Add an endpoint. Its secret is shown only once.",
    discussion: """
      The secret is encrypted with METER_ENCRYPTION_KEY. Names are resolved and checked when \
      webhooks are sent. METER_WEBHOOK_ALLOW_CIDRS and METER_WEBHOOK_ALLOW_HTTP must have the \
      dispatcher's values.

      Example: meterctl endpoint add --customer cus_42 --url https://example.com/hooks
      """)

  @Option(help: "The customer whose alerts it receives.")
  var customer: String?

  @Flag(help: "Receive the alerts of all customers. This is for the vendor.")
  var allCustomers = false

  @Option(help: "The URL to send alerts to.")
  var url: String

  @Option(help: "Types of alerts, separated by commas (default: all).")
  var events = ""

  @Option(help: "v1 (a shared secret) or v1a (a public key).")
  var signing = SigningSecret.Scheme.v1

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (customer != nil) != allCustomers else {
      throw ValidationError("give either --customer or --all-customers")
    }
    try Endpoint.checkTypes(events)
  }

  func run() throws {
    let made: (endpoint: EndpointStore.Endpoint, secret: String)
    do {
      made = try Endpoint.changing {
        try $0.createEndpoint(
          Administrator.NewEndpoint(
            customerID: customer, url: url, events: Endpoint.types(events), signing: signing),
          Endpoint.rules())
      }
    } catch let error as Failure where error.description.hasPrefix("there is no such customer") {
      throw Failure(
        """
        there is no such customer; meterctl customer list shows those there are, and \
        meterctl customer add makes one
        """)
    }
    output.print(
      ["endpoint_id": .text(made.endpoint.id), "secret": .text(made.secret)],
      text:
        "endpoint  \(made.endpoint.id)\nsecret    \(made.secret)\nThe secret is not shown again.")
  }
}

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

struct EndpointUpdate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "update", abstract: "Change an endpoint's URL, or which alerts it receives.",
    discussion: """
      The secret, the customer and pending deliveries stay. So does everything that is not given.

      Example: meterctl endpoint update ep_0123 --url https://example.com/new-hooks
      """)

  @Argument(help: "The endpoint.") var id: String

  @Option(help: "The URL to send alerts to.")
  var url: String?

  @Option(help: "Types of alerts, separated by commas. * stands for all.")
  var events: String?

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard url != nil || events != nil else {
      throw ValidationError("give --url or --events, or both")
    }
    if let events {
      try Endpoint.checkTypes(events)
      guard !Endpoint.types(events).isEmpty else {
        throw ValidationError("--events must name at least one type, or *")
      }
    }
  }

  func run() throws {
    var changes: [(String, JSON)] = []
    if let url { changes.append(("url", .text(url))) }
    if let events {
      changes.append(("events", .array(Endpoint.types(events).map { .text($0) })))
    }
    let patch = JSON.object(changes).compact
    let found = try Endpoint.changing {
      try $0.updateEndpoint(id, patch: JSONReader.parse(Array(patch.utf8)), Endpoint.rules())
    }
    output.print(
      [
        "endpoint_id": .text(id), "url": .text(found.url),
        "events": .array(found.events.map { .text($0) }),
      ],
      text: "updated")
  }
}

struct EndpointEnable: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "enable", abstract: "Start sending to an endpoint again.",
    discussion: """
      To send what it missed meanwhile, run: meterctl deliveries recover.

      Example: meterctl endpoint enable ep_0123
      """)

  @Argument(help: "The endpoint.") var id: String

  func run() throws {
    _ = try Endpoint.changing { try $0.enableEndpoint(id) }
    print("enabled")
  }
}

struct EndpointDisable: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "disable",
    abstract: "Stop sending to an endpoint, and discard pending deliveries.",
    discussion: "Example: meterctl endpoint disable ep_0123")

  @Argument(help: "The endpoint.") var id: String

  func run() throws {
    _ = try Endpoint.changing { try $0.disableEndpoint(id) }
    print("disabled")
  }
}

struct EndpointDelete: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Delete an endpoint with its deliveries and attempts.",
    discussion: "Example: meterctl endpoint delete ep_0123")

  @Argument(help: "The endpoint.") var id: String
  @OptionGroup var confirmation: ConfirmationOptions

  func run() throws {
    try confirmation.confirm("The endpoint and the record of its deliveries are deleted.")
    try Endpoint.changing { try $0.deleteEndpoint(id) }
    print("deleted")
  }
}

struct EndpointTest: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "test", abstract: "Send an alert of the type webhook.test to an endpoint.",
    discussion: """
      A dispatcher must be running. To see the answer, run: meterctl deliveries list --endpoint ID

      Example: meterctl endpoint test ep_0123
      """)

  @Argument(help: "The endpoint.") var id: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    let delivery = try Endpoint.changing { try $0.testEndpoint(id) }
    output.print(["delivery_id": .integer(delivery)], text: "delivery \(delivery) is pending")
  }
}

struct EndpointRotateSecret: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate-secret",
    abstract: "Create a new secret. The old one also signs for another 24 hours.",
    discussion: "Example: meterctl endpoint rotate-secret ep_0123")

  @Argument(help: "The endpoint.") var id: String
  @OptionGroup var output: OutputOptions

  func run() throws {
    let secret = try Endpoint.changing { try $0.rotateSecret(id, Endpoint.rules()).secret }
    output.print(
      ["endpoint_id": .text(id), "secret": .text(secret)],
      text: "secret  \(secret)\nThe secret is not shown again.")
  }
}
