import Metering

/// API tokens and what they allow.
package enum TokensPage {
  package struct Line: Sendable {
    package var id: String
    package var name: String
    package var scopes: [String]
    package var customer: String?
    package var createdAt: Int64
    package var expiresAt: Int64?
    package var revokedAt: Int64?

    package init(
      id: String, name: String, scopes: [String], customer: String?, createdAt: Int64,
      expiresAt: Int64?, revokedAt: Int64?
    ) {
      self.id = id
      self.name = name
      self.scopes = scopes
      self.customer = customer
      self.createdAt = createdAt
      self.expiresAt = expiresAt
      self.revokedAt = revokedAt
    }
  }

  /// The parameters of the address that choose the tokens.
  package static let filters = ["customer_id"]

  /// - Parameter token: a token that was just made. It is shown only once.
  package static func make(
    _ lines: [Line], next: String?, token: String? = nil, notice: Notice? = nil,
    in context: PageContext
  ) -> Page {
    var page = Page("Tokens", place: "/tokens")
    if let notice { page.add(notice) }
    if let token {
      page.add(ShownOnce(label: "The new token. It is not shown again.", value: token))
    }
    var table = Table(
      "Tokens",
      columns: ["Name", "Token id", "Scopes", "Customer", "Made", "Expires", "Revoke"],
      empty: Empty(
        "There are no tokens yet. This command creates one:",
        command: "meterctl token create --name billing --scope usage:read"))
    for line in lines { table.add(cells(line, in: context)) }
    table.continues(at: next, in: context)
    page.add(table)
    page.add(DataLinks("/v1/tokens", context.filters(filters), in: context))
    page.add(Folded("Make a token", [form(in: context)]))
    return page
  }

  private static func cells(_ line: Line, in context: PageContext) -> [any Component] {
    var end: any Component = Form(
      "Revoke", to: context.basePath + "/tokens/\(PageContext.segment(line.id))/revoke",
      id: "revoke-\(line.id)", isDanger: true, isInline: true, in: context)
    if let revoked = line.revokedAt {
      end = Row([Badge("revoked", .quiet), Moment(revoked, in: context)])
    }
    return [
      LongID(line.name), LongID(line.id), Plain(line.scopes.joined(separator: ", ")),
      line.customer.map {
        LongID($0, to: context.url("/customers/\(PageContext.segment($0))"))
      } ?? Quiet("all") as any Component, Moment(line.createdAt, in: context),
      line.expiresAt.map { Moment($0, in: context) } ?? Quiet("never") as any Component, end,
    ]
  }

  private static func form(in context: PageContext) -> Form {
    var form = Form("Make the token", to: context.basePath + "/tokens", id: "token", in: context)
    form.text("name", "Name", isRequired: true, hint: "Who or what the token is for.")
    form.text("customer_id", "Customer", hint: "Leave it empty for a token of the vendor.")
    form.select(
      "expires", "It ends", value: "90d",
      [("30d", "in 30 days"), ("90d", "in 90 days"), ("365d", "in a year"), ("", "never")])
    for scope in TokenScope.allCases {
      form.checkbox("scope", scope.rawValue, value: scope.rawValue)
    }
    return form
  }
}
