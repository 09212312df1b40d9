import Metering

/// One license: its usage down to the minute, its limits and terms, and what happened to it.
package enum LicensePage {
  package struct Meter: Sendable {
    package var meter: String
    package var periodStart: Int64
    package var periodEnd: Int64
    package var used: Int64
    package var limit: Int64?
    package var projection: Chart.Projection?
    /// The sum of the period's corrections by hand. `used` contains it, and charts do not.
    package var corrected: Int64

    package init(
      meter: String, periodStart: Int64, periodEnd: Int64, used: Int64, limit: Int64?,
      projection: Chart.Projection?, corrected: Int64 = 0
    ) {
      self.corrected = corrected
      self.meter = meter
      self.periodStart = periodStart
      self.periodEnd = periodEnd
      self.used = used
      self.limit = limit
      self.projection = projection
    }
  }

  package struct Share: Sendable {
    package var value: String
    package var quantity: Int64

    package init(value: String, quantity: Int64) {
      self.value = value
      self.quantity = quantity
    }
  }

  package struct License: Sendable {
    package var customer: String
    package var plan: String
    package var status: String
    package var domains: [String]
    package var features: [String]
    package var seats: Int64?
    package var isTrial: Bool
    package var overagePolicy: String
    package var thresholds: [Int64]
    package var anchorDay: Int64
    package var issuedAt: Int64
    package var expiresAt: Int64
    package var limits: [(meter: String, quantity: Int64)]

    package init(
      customer: String, plan: String, status: String, domains: [String], features: [String],
      seats: Int64?, isTrial: Bool, overagePolicy: String, thresholds: [Int64], anchorDay: Int64,
      issuedAt: Int64, expiresAt: Int64, limits: [(meter: String, quantity: Int64)]
    ) {
      self.customer = customer
      self.plan = plan
      self.status = status
      self.domains = domains
      self.features = features
      self.seats = seats
      self.isTrial = isTrial
      self.overagePolicy = overagePolicy
      self.thresholds = thresholds
      self.anchorDay = anchorDay
      self.issuedAt = issuedAt
      self.expiresAt = expiresAt
      self.limits = limits
    }
  }

  /// The usage that the address asks for.
  package struct Usage: Sendable {
    package var meter: String
    /// `minute`, `hour`, `day` or `month`.
    package var window: String
    package var from: Int64
    package var to: Int64
    package var points: [Chart.Point]
    /// The reason why the range cannot be shown, and which one can.
    package var problem: String?

    package init(
      meter: String, window: String, from: Int64, to: Int64, points: [Chart.Point],
      problem: String? = nil
    ) {
      self.meter = meter
      self.window = window
      self.from = from
      self.to = to
      self.points = points
      self.problem = problem
    }
  }

  package struct Data: Sendable {
    package var id: String
    /// Nil for an unregistered license.
    package var license: License?
    package var meters: [Meter]
    /// The days of the current period, for the meter that is shown.
    package var period: [Chart.Point]
    package var usage: Usage
    package var domains: [Share]
    package var features: [Share]
    package var periods: [PeriodLine]
    package var alerts: [AlertLine]
    package var deliveries: [DeliveryLine]
    /// Unusual totals of the license's customer and of the meter that is shown.
    package var anomalies: [Chart.Mark]

    package init(
      id: String, license: License?, meters: [Meter], period: [Chart.Point], usage: Usage,
      domains: [Share], features: [Share], periods: [PeriodLine], alerts: [AlertLine],
      deliveries: [DeliveryLine], anomalies: [Chart.Mark] = []
    ) {
      self.id = id
      self.license = license
      self.meters = meters
      self.period = period
      self.usage = usage
      self.domains = domains
      self.features = features
      self.periods = periods
      self.alerts = alerts
      self.deliveries = deliveries
      self.anomalies = anomalies
    }
  }

  package static func make(_ data: Data, notice: Notice? = nil, in context: PageContext) -> Page {
    var page = Page(data.id, place: context.isPortal ? "/" : "/licenses")
    page.trail = [
      context.isPortal
        ? Link("Usage", to: context.url("/")) : Link("Licenses", to: context.url("/licenses"))
    ]
    if let notice { page.add(notice) }
    if let license = data.license {
      page.aside = [Badge(status: license.status)]
      page.add(facts(license, in: context))
      if license.domains.count > shownDomains {
        page.add(
          Folded(
            "All \(license.domains.count) domains", [Lines(license.domains.map { Plain($0) })]))
      }
    } else {
      page.aside = [Badge("not registered", .warning)]
      page.add(
        Notice(
          .warning,
          [
            Plain(
              "Nobody registered this license, so its usage is billed to nobody. Import it with "),
            Code("meterctl license import"), Plain("."),
          ]))
    }
    period(data, on: &page, in: context)
    usage(data, on: &page, in: context)
    page.add(
      Columns([
        shares("By domain", "domain", data.domains, in: context),
        shares("By feature", "feature", data.features, in: context),
      ]))
    page.add(Heading("Periods", anchor: "periods"))
    page.add(PeriodLine.table(data.periods, caption: "Periods", showsLicense: false, in: context))
    page.add(Heading("Alerts", anchor: "alerts"))
    page.add(
      AlertLine.table(
        data.alerts, caption: "Alerts of this license", showsLicense: false, in: context))
    page.add(Heading("Deliveries", anchor: "deliveries"))
    page.add(DeliveryLine.table(data.deliveries, caption: "Deliveries", in: context))
    if let license = data.license, context.may(.licensesWrite), !context.isPortal {
      LicenseForms.add(id: data.id, license, to: &page, in: context)
    }
    return page
  }

  private static func facts(_ license: License, in context: PageContext) -> Facts {
    var facts = Facts()
    if !context.isPortal {
      facts.add(
        "Customer",
        LongID(
          license.customer,
          to: context.url("/customers/\(PageContext.segment(license.customer))")))
    }
    facts.add("Plan", license.plan + (license.isTrial ? " (trial)" : ""))
    facts.add(
      "Valid",
      DateRange(license.issuedAt, license.expiresAt, in: context))
    if let seats = license.seats { facts.add("Seats", Quantity(seats)) }
    facts.add(
      "Over a limit", license.overagePolicy == "block" ? "calls are refused" : "calls go on")
    facts.add("Period begins", "on day \(license.anchorDay) of the month (UTC)")
    facts.add(
      "Alerts at", license.thresholds.map { "\($0) %" }.joined(separator: ", "))
    facts.add("Domains", domains(license.domains))
    if !license.features.isEmpty {
      facts.add("Features", license.features.joined(separator: ", "))
    }
    return facts
  }

  /// If there are more domains than this, they get their own section.
  private static let shownDomains = 4

  private static func domains(_ domains: [String]) -> any Component {
    if domains.isEmpty { return Quiet("none") }
    if domains.count <= shownDomains { return Lines(domains.map { Plain($0) }) }
    return Plain("\(domains[0]) and \(domains.count - 1) more")
  }

  private static func period(_ data: Data, on page: inout Page, in context: PageContext) {
    page.add(Heading("Current period", anchor: "current"))
    guard !data.meters.isEmpty else {
      page.add(Empty("This license has neither usage nor limits in its current period."))
      return
    }
    var cards = Cards()
    let shown = shownMeters(data)
    for meter in shown {
      var details: [any Component] = []
      if let limit = meter.limit {
        details = [
          Bar(used: meter.used, limit: limit),
          Plain(
            meter.used >= limit
              ? "\(Wording.number(meter.used - limit)) over the limit of \(Wording.number(limit))"
              : "of \(Wording.number(limit)), \(Wording.number(limit - meter.used)) left"),
        ]
      } else {
        details = [Plain("no limit")]
      }
      details.append(
        DateRange(meter.periodStart, meter.periodEnd, in: context))
      if meter.corrected != 0 {
        details.append(
          Lines([
            Row([Plain("with corrections by hand of"), Quantity(signed: meter.corrected)]),
            Quiet("The charts show what was counted, without them."),
          ]))
      }
      if let projection = meter.projection {
        details.append(
          Plain(
            "Estimate for its end: \(Wording.number(projection.quantity)) "
              + "(\(Wording.number(projection.low)) to \(Wording.number(projection.high)))"))
      }
      cards.add(OverviewPage.unit(meter.meter).capitalizedFirst, Quantity(meter.used), details)
    }
    page.add(cards)
    if shown.count < data.meters.count {
      let others = Int64(data.meters.count - shown.count)
      page.add(
        Paragraph([
          Plain(
            "\(Wording.count(others, "other meter")) with a smaller quantity "
              + "\(others == 1 ? "has" : "have") no card here.")
        ]))
    }
    guard let meter = data.meters.first(where: { $0.meter == data.usage.meter }),
      !data.period.isEmpty
    else { return }
    var chart = Chart(
      title: "Used in this period", style: .cumulative, from: meter.periodStart,
      to: meter.periodEnd, points: data.period, limit: meter.limit,
      unit: OverviewPage.unit(meter.meter))
    chart.projection = meter.projection
    chart.marks = marks(data)
    page.add(chart.figure(in: context))
    page.add(
      DataLinks(
        "/v1/licenses/\(PageContext.segment(data.id))/usage/current", hasCSV: false, in: context))
  }

  /// Anybody who may report events chooses their meters, so there may be very many.
  private static let mostMeters = 24

  /// The meter that the address asks for, those with limits, and those with the largest quantities.
  private static func shownMeters(_ data: Data) -> [Meter] {
    guard data.meters.count > mostMeters else { return data.meters }
    func rank(_ meter: Meter) -> (Int, Int, Int64) {
      (meter.meter == data.usage.meter ? 1 : 0, meter.limit == nil ? 0 : 1, meter.used)
    }
    return data.meters.sorted { rank($0) > rank($1) }.prefix(mostMeters)
      .sorted { $0.meter < $1.meter }
  }

  private static func marks(_ data: Data) -> [Chart.Mark] {
    data.alerts.map { Chart.Mark(time: $0.time, text: $0.summary, tone: $0.tone) } + data.anomalies
  }

  private static func usage(_ data: Data, on page: inout Page, in context: PageContext) {
    let usage = data.usage
    page.add(Heading("Usage over time", anchor: "usage"))
    let meters = Set(shownMeters(data).map(\.meter)).sorted()
    if meters.count > 1 {
      page.add(
        Choices(
          "Meter", parameter: "meter", default: usage.meter, meters.map { ($0, $0) }, in: context))
    }
    page.add(
      Choices(
        "Range", parameter: "range", default: "current_period",
        [
          ("current_period", "this period"), ("last_period", "last period"),
          ("last_24h", "24 hours"),
          ("last_7d", "7 days"), ("last_30d", "30 days"), ("this_month", "this month"),
          ("last_month", "last month"),
        ], in: context))
    if let problem = usage.problem {
      page.add(Notice(.bad, problem))
      return
    }
    var chart = Chart(
      title: "\(OverviewPage.unit(usage.meter).capitalizedFirst) by \(usage.window)", style: .bars,
      from: usage.from, to: usage.to, points: usage.points, unit: OverviewPage.unit(usage.meter))
    chart.marks = marks(data)
    page.add(chart.figure(in: context))
    let parameters: [PageContext.Parameter] = [
      ("license_id", data.id), ("meter", usage.meter),
      ("from", UTCTime.brief(usage.from)), ("to", UTCTime.brief(usage.to)),
      ("window", usage.window),
      ("time_zone", context.zone.name),
    ]
    page.add(DataLinks("/v1/usage", parameters, in: context))
    if !context.isPortal, usage.to - usage.from <= 86_400_000 {
      page.add(
        Paragraph([
          Link(
            "The events behind these numbers",
            to: context.url(
              "/events",
              [
                ("license_id", data.id), ("meter", usage.meter),
                ("from", UTCTime.brief(usage.from)),
                ("to", UTCTime.brief(usage.to)),
              ]))
        ]))
    }
  }

  private static func shares(
    _ title: String, _ name: String, _ shares: [Share], in context: PageContext
  ) -> [any Component] {
    let sum = Chart.sum(shares.map(\.quantity))
    var table = Table(
      title, columns: [name.capitalizedFirst, "Share", "#Used"],
      empty: Empty("No event of this period names a \(name)."))
    for share in shares.prefix(20) {
      table.add([
        LongID(share.value), Bar(share: share.quantity, of: sum), Quantity(share.quantity),
      ])
    }
    var sections: [any Component] = [Heading("\(title), this period", anchor: "by-\(name)"), table]
    if !shares.isEmpty {
      sections.append(Paragraph([Quiet("Events that name no \(name) are left out.")]))
    }
    if shares.count > 20 {
      var rest = Table(
        "All by \(name)", columns: [name.capitalizedFirst, "#Used"], empty: Empty(""))
      for share in shares { rest.add([LongID(share.value), Quantity(share.quantity)]) }
      sections.append(Folded("All \(shares.count)", [rest]))
    }
    return sections
  }
}
