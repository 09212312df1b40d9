import Administration
import ArgumentParser
import PostgresStore
import WebhookDelivery

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
        there is no such customer; see: meterctl customer list, or add it with: \
        meterctl customer add
        """)
    }
    output.print(
      ["endpoint_id": .text(made.endpoint.id), "secret": .text(made.secret)],
      text:
        "endpoint  \(made.endpoint.id)\nsecret    \(made.secret)\nThe secret is not shown again.")
  }
}
