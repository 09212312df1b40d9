import Administration
import ArgumentParser
import JSONText
import PostgresStore

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
