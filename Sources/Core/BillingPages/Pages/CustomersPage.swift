import Metering

/// All customers.
package enum CustomersPage {
  package struct Line: Sendable {
    package var id: String
    package var name: String
    package var licenses: Int64?
    package var createdAt: Int64

    package init(id: String, name: String, licenses: Int64?, createdAt: Int64) {
      self.id = id
      self.name = name
      self.licenses = licenses
      self.createdAt = createdAt
    }
  }

  /// The parameters of the address that choose the customers.
  package static let filters = ["search"]

  package static func make(_ lines: [Line], next: String?, in context: PageContext) -> Page {
    var page = Page("Customers", place: "/customers")
    var search = Form(filter: "Search", fields: ["search"], id: "customers", in: context)
    search.text(
      "search", "Customer id or name", value: context.value("search") ?? "", type: "search")
    page.add(search)
    let isFiltered = context.value("search").map { !$0.isEmpty } ?? false
    let counts = lines.contains { $0.licenses != nil }
    var table = Table(
      "Customers", columns: ["Customer", "Name"] + (counts ? ["#Licenses"] : []) + ["Since"],
      empty: isFiltered
        ? Empty("No customer matches. The search finds the beginning of ids and of names.")
        : Empty(
          "There are no customers yet. The form below adds one, and importing a license makes its "
            + "customer:",
          command: "meterctl license import licenses.jsonl"))
    for line in lines {
      var cells: [any Component] = [
        LongID(line.id, to: context.url("/customers/\(PageContext.segment(line.id))")),
        LongID(line.name),
      ]
      if counts { cells.append(Quantity(line.licenses, orElse: "")) }
      table.add(cells + [Moment(day: line.createdAt, in: context)])
    }
    table.continues(at: next, in: context)
    page.add(table)
    page.add(DataLinks("/v1/customers", context.filters(filters), in: context))
    if context.may(.licensesWrite) { page.add(Folded("Add a customer", [form(in: context)])) }
    return page
  }

  private static func form(in context: PageContext) -> Form {
    var form = Form("Add", to: context.basePath + "/customers", id: "new-customer", in: context)
    form.text("customer_id", "Customer id", isRequired: true, placeholder: "cus_…")
    CustomerPage.addTerms(nil, to: &form)
    return form
  }
}
