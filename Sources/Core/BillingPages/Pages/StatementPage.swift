/// A customer's statement for one month, for the screen and for paper.
package enum StatementPage {
  package struct Adjustment: Sendable {
    package var kind: String
    package var quantity: Int64
    package var reason: String
    package var periodStart: Int64

    package init(kind: String, quantity: Int64, reason: String, periodStart: Int64) {
      self.kind = kind
      self.quantity = quantity
      self.reason = reason
      self.periodStart = periodStart
    }
  }

  package struct Line: Sendable {
    package var license: String
    package var meter: String
    package var periodStart: Int64
    package var periodEnd: Int64
    package var quantity: Int64
    package var included: Int64?
    package var overage: Int64?
    package var adjustments: [Adjustment]
    package var billable: Int64
    package var domains: [LicensePage.Share]

    package init(
      license: String, meter: String, periodStart: Int64, periodEnd: Int64, quantity: Int64,
      included: Int64?, overage: Int64?, adjustments: [Adjustment], billable: Int64,
      domains: [LicensePage.Share]
    ) {
      self.license = license
      self.meter = meter
      self.periodStart = periodStart
      self.periodEnd = periodEnd
      self.quantity = quantity
      self.included = included
      self.overage = overage
      self.adjustments = adjustments
      self.billable = billable
      self.domains = domains
    }
  }

  package struct Total: Sendable {
    package var meter: String
    package var quantity: Int64
    package var adjustments: Int64
    package var overage: Int64
    package var billable: Int64

    package init(
      meter: String, quantity: Int64, adjustments: Int64, overage: Int64, billable: Int64
    ) {
      self.meter = meter
      self.quantity = quantity
      self.adjustments = adjustments
      self.overage = overage
      self.billable = billable
    }
  }

  package struct Data: Sendable {
    package var customer: String
    package var name: String
    /// `2026-11`.
    package var month: String
    /// `closed` once all periods are closed.
    package var status: String
    package var lines: [Line]
    package var totals: [Total]
    package var signature: String?
    /// The time when the last of its periods was closed.
    package var closedAt: Int64?

    package init(
      customer: String, name: String, month: String, status: String, lines: [Line],
      totals: [Total], signature: String?, closedAt: Int64? = nil
    ) {
      self.customer = customer
      self.name = name
      self.month = month
      self.status = status
      self.lines = lines
      self.totals = totals
      self.signature = signature
      self.closedAt = closedAt
    }
  }

  package static func make(_ data: Data, in context: PageContext) -> Page {
    var page = Page(
      "Statement \(data.month)", place: context.isPortal ? "/statements" : "/customers")
    page.aside = [Badge(status: data.status)]
    page.trail =
      context.isPortal
      ? [Link("Statements", to: context.url("/statements"))]
      : [
        Link("Customers", to: context.url("/customers")),
        Link(data.name, to: context.url("/customers/\(PageContext.segment(data.customer))")),
      ]
    var facts = Facts()
    facts.add("Customer", data.name)
    facts.add("Customer id", LongID(data.customer))
    facts.add("Periods", "those whose last day lies in \(data.month) (UTC)")
    if let closedAt = data.closedAt { facts.add("Closed", Moment(exact: closedAt, in: context)) }
    page.add(facts)
    page.add(Heading("Totals", anchor: "totals"))
    page.add(totals(data))
    page.add(Heading("By license", anchor: "lines"))
    page.add(lines(data, in: context))
    if !data.lines.isEmpty { page.add(explanation) }
    adjustments(data, on: &page, in: context)
    domains(data, on: &page)
    proof(data, on: &page, in: context)
    page.add(
      DataLinks(
        "/v1/customers/\(PageContext.segment(data.customer))/statements/\(data.month)", in: context)
    )
    return page
  }

  /// Says how the numbers of a line belong together. It is printed as well.
  private static let explanation = Facts([
    ("Used", "what was counted in the period, without what arrived after its close"),
    (
      "Adjustments",
      "corrections by hand, and events of earlier periods that arrived after the close"
    ),
    ("Billable", "used and adjustments together"),
    (
      "Overage",
      "what goes beyond the included amount, counting what was used and the corrections by hand of "
        + "the same period, but not late events nor corrections of other periods"
    ),
  ])

  private static func totals(_ data: Data) -> Table {
    var table = Table(
      "Totals by meter",
      columns: ["Meter", "#Used", "#Adjustments", "#Overage", "#Billable"],
      empty: Empty("No period of this customer ends in \(data.month)."))
    for total in data.totals {
      table.add([
        Plain(total.meter), Quantity(total.quantity), Quantity(signed: total.adjustments),
        Quantity(total.overage), Quantity(total.billable),
      ])
    }
    return table
  }

  private static func lines(_ data: Data, in context: PageContext) -> Table {
    var table = Table(
      "Lines by license and meter",
      columns: [
        "License", "Meter", "Period", "#Used", "#Included", "#Overage", "#Adjustments", "#Billable",
      ],
      empty: Empty("There are no lines."))
    for line in data.lines {
      table.add([
        LongID(line.license, to: context.url("/licenses/\(PageContext.segment(line.license))")),
        Plain(line.meter),
        DateRange(line.periodStart, line.periodEnd, in: context), Quantity(line.quantity),
        Quantity(line.included, orElse: "all"),
        Quantity(line.overage, orElse: ""),
        Quantity(signed: Chart.sum(line.adjustments.map(\.quantity))), Quantity(line.billable),
      ])
    }
    return table
  }

  private static func adjustments(_ data: Data, on page: inout Page, in context: PageContext) {
    guard data.lines.contains(where: { !$0.adjustments.isEmpty }) else { return }
    page.add(Heading("Adjustments", anchor: "adjustments"))
    var table = Table(
      "Adjustments", columns: ["License", "Meter", "Of the period from", "#Quantity", "Reason"],
      empty: Empty(""))
    for line in data.lines {
      for adjustment in line.adjustments {
        table.add([
          LongID(line.license), Plain(line.meter), Moment(day: adjustment.periodStart, in: context),
          Quantity(signed: adjustment.quantity),
          Plain(adjustment.kind == "late" ? "arrived late" : adjustment.reason),
        ])
      }
    }
    page.add(table)
  }

  private static func domains(_ data: Data, on page: inout Page) {
    guard data.lines.contains(where: { !$0.domains.isEmpty }) else { return }
    var table = Table(
      "Usage by domain", columns: ["License", "Meter", "Domain", "#Used"], empty: Empty(""))
    for line in data.lines {
      for share in line.domains {
        table.add([
          LongID(line.license), Plain(line.meter), LongID(share.value), Quantity(share.quantity),
        ])
      }
      let (rest, overflows) = line.quantity.subtractingReportingOverflow(
        Chart.sum(line.domains.map(\.quantity)))
      if rest > 0, !overflows, !line.domains.isEmpty {
        table.add([
          LongID(line.license), Plain(line.meter), Quiet("events without a domain"), Quantity(rest),
        ])
      }
    }
    page.add(
      Folded(
        "Usage by domain", [table, Paragraph([Quiet("Adjustments are not part of this table.")])]))
  }

  private static func proof(_ data: Data, on page: inout Page, in context: PageContext) {
    if let signature = data.signature {
      page.add(
        Folded(
          "Signature",
          [
            Paragraph([
              Plain("This statement is signed. Anybody can verify it with the public keys at "),
              Link("/.well-known/jwks.json", to: context.api("/.well-known/jwks.json")),
              Plain("."),
            ]), CodeBlock(signature, label: "The signature, a compact JWS"),
          ]))
    } else {
      page.add(
        Notice(
          .warning,
          data.status == "closed"
            ? "This statement is not signed, because the service has no signing key."
            : "This statement is not final: at least one of its periods is still open."))
    }
  }

  /// Lists the months that have a statement.
  package static func list(
    _ statements: [CustomerPage.Statement], base: String, in context: PageContext
  ) -> Table {
    let hasAmounts = statements.contains { $0.billable != nil }
    var table = Table(
      "Statements", columns: ["Month", "Status"] + (hasAmounts ? ["#Billable"] : []),
      empty: Empty("There are no statements yet. The first one comes when a period ends."))
    for statement in statements {
      var cells: [any Component] = [
        Link(statement.month, to: context.url("\(base)/\(statement.month)")),
        Badge(status: statement.status),
      ]
      if hasAmounts { cells.append(Quantity(statement.billable, orElse: "")) }
      table.add(cells)
    }
    return table
  }
}
