/// The overview: whether everything is counted, how much is used, and who needs attention.
package enum OverviewPage {
  /// Times are in milliseconds since 1970.
  package struct Data: Sendable {
    /// Nil for readers who may not see the whole installation.
    package var health: Health?
    package var usage: [Usage]
    /// How many other meters were used, with fewer events.
    package var otherMeters: Int64
    package var nearLimits: [LicenseUse]
    package var alerts: [AlertLine]
    package var failing: [EndpointLine]
    package var duePeriods: Int64?
    /// Whether there are more than `duePeriods`.
    package var hasMoreDue: Bool

    package init(
      health: Health?, usage: [Usage], otherMeters: Int64 = 0, nearLimits: [LicenseUse],
      alerts: [AlertLine], failing: [EndpointLine], duePeriods: Int64?, hasMoreDue: Bool = false
    ) {
      self.hasMoreDue = hasMoreDue
      self.health = health
      self.usage = usage
      self.otherMeters = otherMeters
      self.nearLimits = nearLimits
      self.alerts = alerts
      self.failing = failing
      self.duePeriods = duePeriods
    }
  }

  /// The usage of a stretch of time that is not over, and of the one before it.
  package struct Stretch: Sendable {
    /// Including the current hour.
    package var now: Int64
    /// Up to the last whole hour. `before` covers the same stretch one day or month earlier.
    package var wholeHours: Int64
    package var before: Int64

    package init(now: Int64, wholeHours: Int64, before: Int64) {
      self.now = now
      self.wholeHours = wholeHours
      self.before = before
    }
  }

  /// Calls today and this month, each compared with the same stretch before.
  package struct Usage: Sendable {
    package var meter: String
    package var today: Stretch
    package var month: Stretch
    /// The end of the last whole hour.
    package var until: Int64
    /// By hour, with the same hour of the day before.
    package var hours: [Chart.Point]
    package var from: Int64
    package var to: Int64
    /// Unusual totals of this meter.
    package var marks: [Chart.Mark]

    package init(
      meter: String, today: Stretch, month: Stretch, until: Int64, hours: [Chart.Point],
      from: Int64, to: Int64, marks: [Chart.Mark] = []
    ) {
      self.meter = meter
      self.today = today
      self.month = month
      self.until = until
      self.hours = hours
      self.from = from
      self.to = to
      self.marks = marks
    }
  }

  package static func make(_ data: Data, in context: PageContext) -> Page {
    var page = Page("Overview", place: "/")
    page.add(data.health?.verdict(in: context))
    usage(data, on: &page, in: context)
    if let due = due(data, in: context) { page.add(due) }
    let failing = failing(data, in: context)
    if failing.isEmpty {
      page.add(limits(data, in: context))
    } else {
      page.add(Columns([limits(data, in: context), failing]))
    }
    page.add(
      Heading(
        "Last alerts", anchor: "alerts", aside: [Link("All alerts", to: context.url("/alerts"))]))
    page.add(AlertLine.table(data.alerts, caption: "Last alerts", in: context))
    return page
  }

  private static func usage(_ data: Data, on page: inout Page, in context: PageContext) {
    guard !data.usage.isEmpty else {
      page.add(
        Empty(
          "No usage has been counted yet. It comes from the validation service, or from your own "
            + "events. This command sends some test events:",
          command: "meterctl load --events 10000 --licenses 20 --rate 1000"))
      return
    }
    for usage in data.usage {
      let unit = Self.unit(usage.meter)
      if data.usage.count > 1 {
        page.add(Heading(unit.capitalizedFirst, anchor: "meter-\(usage.meter)"))
      }
      var cards = Cards()
      let until = "Until \(context.zone.clock(usage.until)):"
      cards.add(
        "Today", Quantity(usage.today.now),
        [Plain("\(until) \(compared(usage.today, "yesterday"))")])
      cards.add(
        "This month", Quantity(usage.month.now),
        [Plain("\(until) \(compared(usage.month, "last month at this point"))")])
      page.add(cards)
      var chart = Chart(
        title: "\(unit.capitalizedFirst) by hour", style: .bars, from: usage.from, to: usage.to,
        points: usage.hours, unit: unit)
      chart.marks = usage.marks
      page.add(chart.figure(in: context))
    }
    if data.otherMeters > 0 {
      page.add(
        Paragraph([
          Plain(
            "\(Wording.count(data.otherMeters, "other meter")) with fewer events this month and "
              + "last month \(data.otherMeters == 1 ? "has" : "have") no chart here.")
        ]))
    }
    page.add(
      DataLinks(
        "/v1/usage",
        [
          ("range", "last_24h"), ("window", "hour"), ("group_by", "meter"), ("compare", "previous"),
        ],
        in: context))
  }

  private static func compared(_ stretch: Stretch, _ before: String) -> String {
    "\(Wording.change(stretch.wholeHours, before: stretch.before)) \(before) "
      + "(\(Wording.number(stretch.before)))"
  }

  private static func limits(_ data: Data, in context: PageContext) -> [any Component] {
    var table = Table(
      "Licenses near or over their limits",
      columns: ["License", "Meter", "Use", "#Used", "#Limit"],
      empty: Empty("No license has used 80 % of a limit in its current period."))
    for use in data.nearLimits {
      table.add([
        LongID(use.license, to: context.url("/licenses/\(PageContext.segment(use.license))")),
        Plain(use.meter), Bar(used: use.used, limit: use.limit), Quantity(use.used),
        Quantity(use.limit),
      ])
    }
    return [
      Heading(
        "Near and over limits", anchor: "limits",
        aside: [Link("All licenses", to: context.url("/licenses"))]),
      table,
    ]
  }

  private static func failing(_ data: Data, in context: PageContext) -> [any Component] {
    guard !data.failing.isEmpty else { return [] }
    return [
      Heading(
        "Failing endpoints", anchor: "failing",
        aside: [Link("All webhooks", to: context.url("/webhooks"))]),
      EndpointLine.table(data.failing, caption: "Failing endpoints", isShort: true, in: context),
    ]
  }

  private static func due(_ data: Data, in context: PageContext) -> Notice? {
    guard let due = data.duePeriods, due > 0 else { return nil }
    return Notice(
      .warning,
      [
        Plain(data.hasMoreDue ? "More than " : ""),
        Plain("\(Wording.count(due, "period")) ended and can be closed. "),
        Link("Close them", to: context.url("/periods")),
      ])
  }

  /// Turns `api_calls` into "api calls" for sentences.
  package static func unit(_ meter: String) -> String {
    meter == "api_calls" ? "calls" : meter.replacing("_", with: " ")
  }
}
