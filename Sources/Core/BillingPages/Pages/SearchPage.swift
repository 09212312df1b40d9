/// The results of the search field.
package enum SearchPage {
  package struct Hit: Sendable {
    /// `License`, `Customer`, `Event` and so on.
    package var kind: String
    package var id: String
    /// The path after the root of the pages; nil if there is no page.
    package var path: String?
    package var parameters: [PageContext.Parameter]
    package var detail: String

    package init(
      kind: String, id: String, path: String?, parameters: [PageContext.Parameter] = [],
      detail: String
    ) {
      self.kind = kind
      self.id = id
      self.path = path
      self.parameters = parameters
      self.detail = detail
    }
  }

  package static func make(_ hits: [Hit], remark: String?, in context: PageContext) -> Page {
    var page = Page("Search", place: "")
    var table = Table(
      "Found", columns: ["What", "Id", "About it"],
      empty: Empty(
        "Nothing has this id. The search takes the whole id of a license, customer, event, alert, "
          + "delivery, endpoint or token, a webhook-id, or a domain."))
    for hit in hits {
      table.add([
        Plain(hit.kind),
        LongID(hit.id, to: hit.path.map { context.url($0, hit.parameters) }),
        Plain(hit.detail),
      ])
    }
    page.add(table)
    if let remark { page.add(Notice(.quiet, remark)) }
    return page
  }
}
