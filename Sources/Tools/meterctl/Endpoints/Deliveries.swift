import Administration
import ArgumentParser
import JSONText
import Metering
import PostgresStore

struct Deliveries: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "deliveries", abstract: "List, show and repeat deliveries to webhook endpoints.",
    discussion: "Example: meterctl deliveries list --status failed",
    subcommands: [
      DeliveriesList.self, DeliveriesShow.self, DeliveriesRedeliver.self, DeliveriesRecover.self,
    ])

  static func members(_ delivery: EndpointStore.Delivery) -> [(String, JSON)] {
    [
      ("delivery_id", .integer(delivery.id)), ("webhook_id", .text(delivery.webhookID)),
      ("endpoint_id", .text(delivery.endpoint)), ("type", .text(delivery.type)),
      ("license_id", .optional(delivery.license)), ("status", .text(delivery.status)),
      ("attempts", .integer(delivery.attempts)),
      ("next_attempt_at", .optional(delivery.nextAttemptAt)),
      ("created_at", .text(delivery.createdAt)),
      ("last_status_code", .optional(delivery.lastStatusCode)),
      ("last_error", .optional(delivery.lastError)),
    ]
  }
}

struct DeliveriesList: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List deliveries, newest first.",
    discussion: "Example: meterctl deliveries list --endpoint ep_0123 --status failed --json")

  @Option(help: "Only deliveries to this endpoint.")
  var endpoint: String?

  @Option(help: "Only deliveries that are pending, delivered, failed or discarded.")
  var status: Status?

  @Option(help: "The largest number of rows to list.")
  var limit = 50

  @OptionGroup var output: OutputOptions

  enum Status: String, ExpressibleByArgument, CaseIterable {
    case pending
    case delivered
    case failed
    case discarded
  }

  func validate() throws {
    guard (1...1_000_000).contains(limit) else {
      throw ValidationError("--limit must be from 1 to 1,000,000")
    }
  }

  func run() throws {
    let found = try EndpointStore(Connections().database("deliveries")).deliveries(
      endpoint: endpoint, status: status?.rawValue, limit: limit)
    output.print(
      .array(found.map { .object(Deliveries.members($0)) }),
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

struct DeliveriesShow: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Show a delivery with its content and the result of each attempt.",
    discussion: "Example: meterctl deliveries show 4711")

  @Argument(help: "The delivery.") var id: Int64
  @OptionGroup var output: OutputOptions

  func run() throws {
    guard let found = try EndpointStore(Connections().database("deliveries")).delivery(id) else {
      throw Failure("there is no delivery \(id); see: meterctl deliveries list")
    }
    let members: [(String, JSON)] =
      Deliveries.members(found.delivery) + [
        ("url", .text(found.url)), ("customer_id", .optional(found.customer)),
        ("occurred_at", .text(found.occurredAt)), ("finished_at", .optional(found.finishedAt)),
        ("data", Self.json(found.data)), ("traceparent", .optional(found.trace?.traceparent)),
        ("attempt_log", .array(found.attempts.map(Self.json))),
      ]
    output.print(.object(members), text: Self.text(found))
  }

  /// The alert's data, unchanged.
  private static func json(_ text: String) -> JSON {
    do {
      return json(try JSONReader.parse(Array(text.utf8)))
    } catch {
      return .text(text)
    }
  }

  private static func json(_ value: JSONValue) -> JSON {
    switch value {
    case .object(let members):
      .object(members.map { (String(decoding: $0.name.bytes, as: UTF8.self), json($0.value)) })
    case .array(let elements): .array(elements.map(json))
    case .string(let string): .text(String(decoding: string.bytes, as: UTF8.self))
    case .number(let digits):
      Int64(digits).map { .integer($0) } ?? Double(digits).map { .number($0) } ?? .text(digits)
    case .bool(let value): .boolean(value)
    case .null: .null
    }
  }

  private static func json(_ attempt: EndpointStore.Attempt) -> JSON {
    [
      "attempt": .integer(attempt.number), "at": .text(attempt.at),
      "status_code": .optional(attempt.statusCode), "error": .optional(attempt.error),
      "duration_ms": .integer(attempt.durationMilliseconds),
      "response": .text(String(decoding: attempt.response, as: UTF8.self)),
    ]
  }

  private static func text(_ found: EndpointStore.DeliveryDetail) -> String {
    let delivery = found.delivery
    var lines = [
      "delivery  \(delivery.id)  \(delivery.webhookID)",
      "endpoint  \(delivery.endpoint)  \(Terminal.printable(found.url))",
      "alert     \(delivery.type) of \(found.occurredAt)",
      "status    \(delivery.status)"
        + (delivery.nextAttemptAt.map { ", next attempt at \($0)" } ?? ""),
      "data      \(Terminal.printable(found.data))",
    ]
    if let trace = found.trace { lines.append("trace     \(trace.traceIDText)") }
    if found.attempts.isEmpty { lines.append("no attempts yet") }
    for attempt in found.attempts {
      let status = attempt.statusCode.map { "\($0)  " } ?? ""
      let error = attempt.error.map { "\(Terminal.printable($0))  " } ?? ""
      lines.append(
        "attempt \(attempt.number)  \(attempt.at)  \(status)\(error)"
          + "\(attempt.durationMilliseconds) ms")
      let answer = String(decoding: attempt.response, as: UTF8.self)
      if !answer.isEmpty { lines.append("  answer: \(Terminal.printable(answer))") }
    }
    return lines.joined(separator: "\n")
  }
}

struct DeliveriesRedeliver: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "redeliver", abstract: "Send one delivery again, under the same webhook-id.",
    discussion: "Example: meterctl deliveries redeliver 4711")

  @Argument(help: "The delivery.") var id: Int64

  func run() throws {
    do {
      try Connections().administrator("deliveries").redeliver(id)
    } catch let refusal as AdministrationRefusal where refusal.kind == .notFound {
      throw Failure("there is no delivery \(id); see: meterctl deliveries list")
    }
    print("pending")
  }
}

struct DeliveriesRecover: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "recover",
    abstract: "Send the failed and discarded deliveries of a time range again.",
    discussion: """
      Example: meterctl deliveries recover ep_0123 --since 2026-11-01 --until 2026-11-08
      """)

  @Argument(help: "The endpoint.") var endpoint: String
  @Option(help: "Only deliveries created at this time or later.") var since: Moment
  @Option(help: "Only deliveries created before this time.") var until: Moment = .now
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard since < until else { throw ValidationError("--since must be before --until") }
  }

  func run() throws {
    let count = try Endpoint.changing {
      try $0.recoverEndpoint(
        endpoint, sinceMilliseconds: since.milliseconds, untilMilliseconds: until.milliseconds)
    }
    output.print(
      ["recovered": .int(count)], text: "\(Terminal.grouped(count)) deliveries are pending again")
  }
}
