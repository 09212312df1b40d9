import ArgumentParser
import PostgresStore

/// `meterctl audit`: shows who changed what.
struct AuditLog: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit", abstract: "List who changed what, newest first.",
    discussion: """
      Every change through the API, the pages or meterctl adds a row. Rows are never changed.

      Example: meterctl audit --resource license/lic_abc123 --from 2026-11-01
      """)

  @Option(help: "Only changes by this token, session or account.")
  var actor: String?

  @Option(help: "Only this action, such as license.suspend.")
  var action: String?

  @Option(help: "Only changes of this thing: KIND or KIND/ID, such as license/lic_abc123.")
  var resource: String?

  @Option(help: "List only this customer's.")
  var customer: String?

  @Option(help: "Only changes at this time or later.")
  var from: Moment?

  @Option(help: "Only changes before this time.")
  var to: Moment?

  @Option(help: "Only rows after this one, for the next page.")
  var before: Int64?

  @Option(help: "The largest number of rows to list.")
  var limit = 50

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...100_000).contains(limit) else {
      throw ValidationError("--limit must be from 1 to 100,000")
    }
  }

  func run() throws {
    var filter = AuditStore.Filter()
    filter.actorID = actor
    filter.action = action
    filter.customerID = customer
    filter.fromMilliseconds = from?.milliseconds
    filter.toMilliseconds = to?.milliseconds
    if let resource {
      let parts = resource.split(separator: "/", maxSplits: 1).map(String.init)
      filter.resourceKind = parts.first
      filter.resourceID = parts.count > 1 ? parts[1] : nil
    }
    let found = try AuditStore(Connections().database("audit")).list(
      filter, before: before, limit: limit)
    output.print(
      .array(found.map(Self.json)),
      text: found.isEmpty
        ? "no entries"
        : Terminal.table(
          ["id", "time", "actor", "action", "resource", "before", "after"],
          found.map {
            [
              "\($0.id)", $0.at, "\($0.actorKind) \(Terminal.printable($0.actorID))", $0.action,
              Terminal.printable("\($0.resourceKind)/\($0.resourceID)"),
              Terminal.printable($0.before ?? "-"), Terminal.printable($0.after ?? "-"),
            ]
          }, right: [0]))
  }

  private static func json(_ entry: AuditStore.Entry) -> JSON {
    [
      "audit_id": .integer(entry.id), "at": .text(entry.at),
      "actor_kind": .text(entry.actorKind), "actor_id": .text(entry.actorID),
      "action": .text(entry.action), "resource_kind": .text(entry.resourceKind),
      "resource_id": .text(entry.resourceID), "customer_id": .optional(entry.customerID),
      "before": entry.before.map(License.json) ?? .null,
      "after": entry.after.map(License.json) ?? .null,
      "request_id": .optional(entry.requestID), "address": .optional(entry.address),
      "user_agent": .optional(entry.userAgent), "status": .integer(entry.status),
    ]
  }
}
