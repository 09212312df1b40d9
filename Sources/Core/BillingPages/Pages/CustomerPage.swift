import Metering

/// One customer: usage, licenses, statements, and the link to the customer's own pages.
package enum CustomerPage {
  package struct Statement: Sendable {
    /// For example `2026-11`.
    package var month: String
    package var status: String
    package var billable: Int64?

    package init(month: String, status: String, billable: Int64? = nil) {
      self.month = month
      self.status = status
      self.billable = billable
    }
  }

  package struct PortalSession: Sendable {
    package var id: String
    package var expiresAt: Int64
    package var createdAt: Int64
    package var isUsed: Bool

    package init(id: String, expiresAt: Int64, createdAt: Int64, isUsed: Bool) {
      self.id = id
      self.expiresAt = expiresAt
      self.createdAt = createdAt
      self.isUsed = isUsed
    }
  }

  package struct Data: Sendable {
    package var id: String
    package var name: String
    package var stripeCustomerID: String?
    package var createdAt: Int64
    package var usage: [Chart]
    package var licenses: [LicensesPage.Line]
    package var hasMoreLicenses: Bool
    package var statements: [Statement]
    package var sessions: [PortalSession]

    package init(
      id: String, name: String, stripeCustomerID: String?, createdAt: Int64, usage: [Chart],
      licenses: [LicensesPage.Line], hasMoreLicenses: Bool, statements: [Statement],
      sessions: [PortalSession]
    ) {
      self.id = id
      self.name = name
      self.stripeCustomerID = stripeCustomerID
      self.createdAt = createdAt
      self.usage = usage
      self.licenses = licenses
      self.hasMoreLicenses = hasMoreLicenses
      self.statements = statements
      self.sessions = sessions
    }
  }

  /// - Parameter portalURL: a link that was just made. It is shown only once.
  package static func make(
    _ data: Data, notice: Notice? = nil, portalURL: String? = nil, in context: PageContext
  ) -> Page {
    var page = Page(data.name, place: "/customers")
    page.trail = [Link("Customers", to: context.url("/customers"))]
    if let notice { page.add(notice) }
    if let portalURL {
      page.add(
        ShownOnce(
          label: "The link to the customer's own pages. It signs in once and is not shown again.",
          value: portalURL))
    }
    var facts = Facts()
    facts.add("Customer id", LongID(data.id))
    facts.add("Since", Moment(day: data.createdAt, in: context))
    facts.add(
      "Stripe customer", data.stripeCustomerID.map { LongID($0) } ?? Quiet("not linked"))
    page.add(facts)
    page.add(Heading("Usage this month", anchor: "usage"))
    page.add(charts(data, in: context))
    page.add(
      DataLinks(
        "/v1/usage",
        [
          ("customer_id", data.id), ("range", "this_month"), ("window", "day"),
          ("group_by", "meter"), ("time_zone", context.zone.name),
        ], in: context))
    page.add(
      Columns([licenses(data, in: context), statements(data, in: context)]))
    if context.may(.licensesWrite), !context.isPortal {
      page.add(
        Folded("Change the name and the Stripe customer", [change(data, in: context)]))
    }
    if context.may(.admin) || context.may(.licensesWrite) {
      portal(data, on: &page, in: context)
    }
    return page
  }

  private static func change(_ data: Data, in context: PageContext) -> Form {
    let action = context.basePath + "/customers/\(PageContext.segment(data.id))/change"
    var form = Form("Save", to: action, id: "change", in: context)
    addTerms(data, to: &form)
    return form
  }

  static func addTerms(_ customer: Data?, to form: inout Form) {
    for (name, label, value, hint) in [
      ("name", "Name", customer?.name, "Statements and pages show it, or else the id."),
      (
        "stripe_customer_id", "Stripe customer id", customer?.stripeCustomerID,
        "Usage of customers without one is listed and not exported."
      ),
    ] {
      form.text(name, label, value: value ?? "", hint: hint)
      if customer != nil { form.hide("was." + name, value ?? "") }
    }
  }

  private static func charts(_ data: Data, in context: PageContext) -> [any Component] {
    data.usage.isEmpty
      ? [Empty("No usage has been counted for this customer this month.")]
      : data.usage.map { $0.figure(in: context) }
  }

  private static func licenses(_ data: Data, in context: PageContext) -> [any Component] {
    var table = Table(
      "Licenses", columns: ["License", "Status", "Plan", "Use this period"],
      empty: Empty("This customer has no licenses."))
    for line in data.licenses {
      table.add([
        LongID(line.id, to: context.url("/licenses/\(PageContext.segment(line.id))")),
        Badge(status: line.status), Plain(line.plan),
        line.use?.shown ?? Quiet("no limit") as any Component,
      ])
    }
    let all = context.url("/licenses", [("customer_id", data.id)])
    return [
      Heading(
        "Licenses", anchor: "licenses",
        aside: data.hasMoreLicenses ? [Link("All of them", to: all)] : []),
      table,
    ]
  }

  private static func statements(_ data: Data, in context: PageContext) -> [any Component] {
    [
      Heading("Statements", anchor: "statements"),
      StatementPage.list(
        data.statements,
        base: context.isPortal
          ? "/statements" : "/customers/\(PageContext.segment(data.id))/statements", in: context),
    ]
  }

  private static func portal(_ data: Data, on page: inout Page, in context: PageContext) {
    let base =
      context.basePath + "/customers/\(PageContext.segment(data.id))/portal-sessions"
    page.add(Heading("The customer's own pages", anchor: "portal"))
    var form = Form("Make a link", to: base, id: "portal", in: context)
    form.select(
      "expires_in", "The session lasts", value: "1h",
      [("5m", "5 minutes"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")])
    form.checkbox(
      "read_only", "Only for reading", isChecked: true,
      hint: "Without this, the customer can manage endpoints.")
    page.add(
      Folded(
        "Make a link that signs the customer in", isOpen: false,
        [
          Paragraph(
            "The link works once. It shows this customer's usage, statements, endpoints and "
              + "deliveries, and nothing of other customers."), form,
        ]))
    guard !data.sessions.isEmpty else { return }
    var table = Table(
      "Open sessions", columns: ["Session", "Made", "Ends", "Link", "End it"],
      empty: Empty(""), showsCaption: true)
    for session in data.sessions {
      var revoke = Form(
        "Revoke", to: base + "/\(PageContext.segment(session.id))/revoke",
        id: "revoke-\(session.id)", isDanger: true, isInline: true, in: context)
      revoke.hide("session", session.id)
      table.add([
        LongID(session.id), Moment(session.createdAt, in: context),
        Moment(session.expiresAt, in: context), Plain(session.isUsed ? "used" : "not used yet"),
        revoke,
      ])
    }
    page.add(table)
  }
}
