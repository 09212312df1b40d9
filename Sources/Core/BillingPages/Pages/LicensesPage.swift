import Metering

/// All licenses, with a search by license, customer and domain.
package enum LicensesPage {
  package struct Line: Sendable {
    package var id: String
    package var customer: String
    package var plan: String
    package var status: String
    package var domains: [String]
    package var expiresAt: Int64
    /// The most used limit of the current period.
    package var use: LicenseUse?

    package init(
      id: String, customer: String, plan: String, status: String, domains: [String],
      expiresAt: Int64, use: LicenseUse? = nil
    ) {
      self.id = id
      self.customer = customer
      self.plan = plan
      self.status = status
      self.domains = domains
      self.expiresAt = expiresAt
      self.use = use
    }
  }

  /// The usage of an unregistered license.
  package struct Unregistered: Sendable {
    package var id: String
    package var meter: String
    package var quantity: Int64
    package var lastDay: Int64

    package init(id: String, meter: String, quantity: Int64, lastDay: Int64) {
      self.id = id
      self.meter = meter
      self.quantity = quantity
      self.lastDay = lastDay
    }
  }

  package struct Data: Sendable {
    package var lines: [Line]
    package var next: String?
    package var unregistered: [Unregistered]

    package init(lines: [Line], next: String?, unregistered: [Unregistered] = []) {
      self.lines = lines
      self.next = next
      self.unregistered = unregistered
    }
  }

  /// The parameters of the address that choose the licenses.
  package static let filters = ["search", "status", "customer_id", "plan", "domain"]

  package static func make(_ data: Data, in context: PageContext) -> Page {
    var page = Page("Licenses", place: "/licenses")
    var search = Form(filter: "Search", fields: ["search"], id: "licenses", in: context)
    search.text(
      "search", "License, customer or domain", value: context.value("search") ?? "", type: "search")
    page.add(search)
    page.add(
      Choices(
        "Status", parameter: "status", default: "",
        [("", "all"), ("active", "active"), ("suspended", "suspended"), ("canceled", "canceled")],
        in: context))
    page.add(table(data, in: context))
    page.add(
      DataLinks("/v1/licenses", context.filters(filters), in: context))
    if context.may(.licensesWrite) {
      page.add(
        Folded(
          "Register a license",
          [LicenseTermsForm.new(customer: context.value("customer_id"), in: context)]))
    }
    if !data.unregistered.isEmpty { unregistered(data, on: &page, in: context) }
    return page
  }

  private static func table(_ data: Data, in context: PageContext) -> Table {
    let isFiltered = !context.filters(filters).isEmpty
    var table = Table(
      "Licenses",
      columns: ["License", "Status", "Customer", "Plan", "Domains", "Use this period", "Expires"],
      empty: isFiltered
        ? Empty("No license matches. The search finds the beginning of ids, and whole domains.")
        : Empty(
          "There are no licenses yet. The form below makes one, and this command imports many, one "
            + "JSON object a line:",
          command: "meterctl license import licenses.jsonl"))
    for line in data.lines {
      table.add([
        LongID(line.id, to: context.url("/licenses/\(PageContext.segment(line.id))")),
        Badge(status: line.status),
        LongID(line.customer, to: context.url("/customers/\(PageContext.segment(line.customer))")),
        Plain(line.plan), Plain(domains(line.domains)),
        line.use?.shown ?? Quiet("no limit") as any Component,
        Moment(day: line.expiresAt, in: context),
      ])
    }
    table.continues(at: data.next, in: context)
    return table
  }

  /// The first two domains, and how many more there are.
  static func domains(_ domains: [String]) -> String {
    if domains.isEmpty { return "none" }
    let shown = domains.prefix(2).map { $0.utf8.count > 40 ? "\($0.prefix(38))…" : $0 }
    let more = domains.count - shown.count
    return shown.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
  }

  private static func unregistered(_ data: Data, on page: inout Page, in context: PageContext) {
    page.add(Heading("Used, but not registered", anchor: "unregistered"))
    page.add(
      Paragraph(
        "These ids have usage, but nobody registered them, so nobody is billed for it."))
    var table = Table(
      "Usage of unregistered licenses",
      columns: ["License id", "Meter", "#Used", "Last used"],
      empty: Empty("All usage belongs to registered licenses."))
    for line in data.unregistered {
      table.add([
        LongID(line.id, to: context.url("/licenses/\(PageContext.segment(line.id))")),
        Plain(line.meter), Quantity(line.quantity), Moment(day: line.lastDay, in: context),
      ])
    }
    page.add(table)
  }
}
