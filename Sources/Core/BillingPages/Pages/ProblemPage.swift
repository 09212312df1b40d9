/// A page for something that cannot be shown or done.
package enum ProblemPage {
  package static func make(
    status: Int, title: String, detail: String, isRetried: Bool = false, in context: PageContext
  ) -> Page {
    var page = Page(title, place: "")
    page.showsNavigation = status != 503
    page.add(Verdict(status >= 500 ? .bad : .warning, [Plain(detail)]))
    if isRetried {
      page.add(
        Paragraph([
          Plain("This page tries again by itself every few seconds. "),
          Link("Try again now", to: context.here([])),
        ]))
    } else if context.session != nil {
      page.add(
        Paragraph([
          Link(context.isPortal ? "Go to your usage" : "Go to the overview", to: context.url("/"))
        ]))
    }
    return page
  }
}
