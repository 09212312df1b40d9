import Metering
import Mustache

/// A whole page: its title, its content, and its place in the navigation.
package struct Page: Sendable {
  package var title: String
  /// Components beside the title, such as a badge.
  package var aside: [any Component] = []
  /// Links to the pages above this one.
  package var trail: [Link] = []
  package var sections: [any Component] = []
  /// The path of the entry in the navigation.
  package var place: String
  /// The address to which the page leads on by itself.
  package var onward: String?
  /// Whether the navigation is shown. A page that is made for paper has none. All pages have print
  /// styles.
  package var showsNavigation = true

  package init(_ title: String, place: String) {
    self.title = title
    self.place = place
  }

  package mutating func add(_ section: (any Component)?) {
    if let section { sections.append(section) }
  }
  package mutating func add(_ more: [any Component]) { sections += more }

  /// The page as HTML.
  package func html(in context: PageContext) -> String {
    let frame = Frame(page: self, context: context)
    guard let html = PageTemplates.library.render(frame, withTemplate: "layout") else {
      preconditionFailure("there is no template layout")
    }
    return html
  }
}

/// The values that the template `layout` reads.
private struct Frame {
  struct Entry {
    let text: String
    let href: String
    let isCurrent: Bool
  }
  struct Field {
    let name: String
    let value: String
  }

  let title: String
  let theme: String?
  let isLong: Bool
  let aside: [any Component]
  let trail: [Link]
  let hasTrail: Bool
  let sections: [any Component]
  let root: String
  let assets: String
  let isPortal: Bool
  let brand: String
  let showsNavigation: Bool
  let entries: [Entry]
  let session: Signed?
  let search: Search?
  let refresh: String?
  let onward: String?
  let refreshURL: String?
  let pauseURL: String?
  let asOf: Moment?
  let completeThrough: Moment?
  let hasZone: Bool
  let zone: String
  let zoneAction: String
  let zoneFields: [Field]
  let zoneSuggestions: [String]
  let returnURL: String?

  struct Signed {
    let name: String
    let csrf: String
    let signOut: String
  }
  struct Search {
    let action: String
    let value: String
    let fields: [Field]
  }

  init(page: Page, context: PageContext) {
    title = page.title
    theme = context.theme
    isLong = page.title.utf8.count > 60
    aside = page.aside
    trail = page.trail
    hasTrail = !page.trail.isEmpty
    sections = (context.refused.map { [$0.notice(on: page.sections)] } ?? []) + page.sections
    root = context.url("/")
    assets = context.basePath + "/assets"
    isPortal = context.isPortal
    brand = context.isPortal ? "Usage" : "License Metering"
    showsNavigation = page.showsNavigation && context.session != nil
    entries = Self.entries(context).map { entry in
      Entry(text: entry.text, href: context.url(entry.path), isCurrent: entry.path == page.place)
    }
    session = context.session.map {
      Signed(
        name: $0.name, csrf: $0.csrf,
        signOut: context.basePath + (context.isPortal ? "/portal" : "") + "/sign-out")
    }
    let zoneField = context.zone.isUTC ? [] : [Field(name: "time_zone", value: context.zone.name)]
    search =
      context.session == nil || context.isPortal
      ? nil
      : Search(
        action: context.basePath + "/search",
        value: context.path == "/search" ? context.value("q") ?? "" : "", fields: zoneField)
    refresh = (context.retrySeconds ?? context.refresh).map(String.init)
    onward = page.onward
    refreshURL = context.refresh == nil ? context.here([("refresh", "5")]) : nil
    pauseURL = context.refresh == nil ? nil : context.here([("refresh", nil)])
    asOf = context.asOf.map { Moment($0, in: context) }
    completeThrough = context.completeThrough.map { Moment($0, in: context) }
    hasZone = context.session != nil
    zone = context.zone.name
    zoneAction = context.basePath + context.path
    zoneFields = context.query.filter { $0.name != "time_zone" && $0.name != "cursor" }
      .map { Field(name: $0.name, value: $0.value) }
    zoneSuggestions = Self.zones
    returnURL = context.session?.returnURL
  }

  private static func entries(_ context: PageContext) -> [(text: String, path: String)] {
    if context.isPortal {
      return [("Usage", "/")]
        + (context.may(.billingRead) ? [("Statements", "/statements")] : [])
        + (context.may(.webhooksRead) ? [("Alerts", "/alerts"), ("Webhooks", "/webhooks")] : [])
    }
    var entries = [("Overview", "/")]
    if context.may(.licensesRead) {
      entries += [("Licenses", "/licenses"), ("Customers", "/customers")]
    }
    if context.may(.billingRead) { entries.append(("Periods", "/periods")) }
    if context.may(.webhooksRead) {
      entries += [("Alerts", "/alerts"), ("Webhooks", "/webhooks")]
    }
    if context.session?.customer == nil, context.may(.usageRead) {
      entries += [("Events", "/events"), ("Dead letters", "/dead-letters")]
    }
    if context.may(.admin) { entries += [("Audit", "/audit"), ("Tokens", "/tokens")] }
    return entries
  }

  /// Only suggestions. Any IANA name can be entered.
  private static let zones = [
    "UTC", "Europe/London", "Europe/Berlin", "Europe/Paris", "Europe/Madrid", "Europe/Warsaw",
    "Europe/Helsinki", "Europe/Istanbul", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "America/Toronto", "America/Sao_Paulo", "America/St_Johns",
    "Africa/Casablanca", "Africa/Lagos", "Asia/Dubai", "Asia/Kolkata", "Asia/Singapore",
    "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Australia/Lord_Howe", "Pacific/Auckland",
  ]
}
