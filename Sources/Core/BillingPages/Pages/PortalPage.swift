/// A customer's own pages: usage against limits, and statements.
package enum PortalPage {
  package struct Data: Sendable {
    package var name: String
    package var licenses: [LicensesPage.Line]
    package var usage: [Chart]
    /// Nil for sessions that may not see alerts.
    package var alerts: [AlertLine]?
    package var next: String?

    package init(
      name: String, licenses: [LicensesPage.Line], usage: [Chart], alerts: [AlertLine]?,
      next: String?
    ) {
      self.name = name
      self.licenses = licenses
      self.usage = usage
      self.alerts = alerts
      self.next = next
    }
  }

  package static func make(_ data: Data, in context: PageContext) -> Page {
    var page = Page("Usage of \(data.name)", place: "/")
    if data.usage.isEmpty {
      page.add(Empty("No usage has been counted this month."))
    } else {
      page.add(data.usage.map { $0.figure(in: context) })
    }
    page.add(Heading("Licenses", anchor: "licenses"))
    var table = Table(
      "Licenses", columns: ["License", "Status", "Plan", "Meter", "Use", "#Used", "#Limit"],
      empty: Empty("You have no licenses yet."))
    for line in data.licenses {
      table.add([
        LongID(line.id, to: context.url("/licenses/\(PageContext.segment(line.id))")),
        Badge(status: line.status), Plain(line.plan), Plain(line.use?.meter ?? ""),
        line.use.map { Bar(used: $0.used, limit: $0.limit) } ?? Quiet("no limit") as any Component,
        Quantity(line.use?.used, orElse: ""), Quantity(line.use?.limit, orElse: "unlimited"),
      ])
    }
    table.continues(at: data.next, in: context)
    page.add(table)
    guard let alerts = data.alerts else { return page }
    page.add(Heading("Last alerts", anchor: "alerts"))
    page.add(AlertLine.table(alerts, caption: "Last alerts", in: context))
    return page
  }

  /// The first page that a link shows. It leads on by itself.
  package static func welcome(to address: String, in context: PageContext) -> Page {
    var page = Page("You are signed in", place: "")
    page.onward = address
    page.add(Paragraph([Link("Go to your usage", to: address)]))
    return page
  }

  package static func statements(
    _ statements: [CustomerPage.Statement], in context: PageContext
  ) -> Page {
    var page = Page("Statements", place: "/statements")
    page.add(StatementPage.list(statements, base: "/statements", in: context))
    return page
  }
}
