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
    Failure("there is no endpoint \(id); see: meterctl endpoint list")
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
      throw Failure("\(refusal); see: meterctl endpoint list")
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
