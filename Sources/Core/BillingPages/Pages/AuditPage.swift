/// Shows who changed what.
package enum AuditPage {
  package struct Line: Sendable {
    package var time: Int64
    package var actor: String
    package var action: String
    package var resource: String
    package var before: String?
    package var after: String?
    package var requestID: String?
    package var address: String?
    package var userAgent: String?
    package var status: Int64?

    package init(
      time: Int64, actor: String, action: String, resource: String, before: String?,
      after: String?, requestID: String?, address: String?, userAgent: String?, status: Int64?
    ) {
      self.time = time
      self.actor = actor
      self.action = action
      self.resource = resource
      self.before = before
      self.after = after
      self.requestID = requestID
      self.address = address
      self.userAgent = userAgent
      self.status = status
    }
  }

  /// The parameters of the address that choose the entries.
  package static let filters = [
    "actor_id", "action", "resource_kind", "resource_id", "customer_id", "from", "to",
  ]

  package static func make(_ lines: [Line], next: String?, in context: PageContext) -> Page {
    var page = Page("Audit", place: "/audit")
    page.add(
      Paragraph("Every change by the API, by these pages and by meterctl, the newest first."))
    var table = Table(
      "Audit", columns: ["When", "Who", "What", "Of what", "From", "Details", "#Status"],
      empty: Empty("Nothing has been changed yet."))
    for line in lines {
      let origin: any Component =
        if let address = line.address { LongID(address) } else {
          Quiet("meterctl")
        }
      table.add([
        Moment(line.time, in: context), LongID(line.actor), Code(line.action),
        LongID(line.resource), origin, details(line),
        Plain(line.status.map(String.init) ?? ""),
      ])
    }
    table.continues(at: next, in: context)
    page.add(table)
    page.add(DataLinks("/v1/audit", context.filters(filters), in: context))
    return page
  }

  /// Shows what changed, and by which request.
  private static func details(_ line: Line) -> any Component {
    var parts: [any Component] = []
    if let before = line.before { parts.append(CodeBlock(before, label: "Before")) }
    if let after = line.after { parts.append(CodeBlock(after, label: "After")) }
    var request = Facts()
    if let id = line.requestID { request.add("Request", LongID(id)) }
    if let agent = line.userAgent { request.add("User agent", agent) }
    if line.requestID != nil || line.userAgent != nil { parts.append(request) }
    return parts.isEmpty ? Quiet("none") : Folded("Show", parts)
  }
}
