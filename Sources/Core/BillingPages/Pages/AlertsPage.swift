/// The list of alerts, and one alert with its evidence in words.
package enum AlertsPage {
  /// The parameters of the address that choose the alerts.
  package static let filters = ["license_id", "type", "customer_id"]

  package static func make(
    _ alerts: [AlertLine], next: String?, in context: PageContext
  ) -> Page {
    var page = Page("Alerts", place: "/alerts")
    var filter = Form(filter: "Show", fields: ["license_id", "type"], id: "alerts", in: context)
    filter.text("license_id", "License", value: context.value("license_id") ?? "")
    filter.select(
      "type", "Kind", value: context.value("type") ?? "",
      [
        ("", "all"), ("license.limit_approaching", "limit approaching"),
        ("license.limit_exceeded", "limit exceeded"),
        ("license.suspicious_activity", "suspicious activity"),
        ("usage.anomaly", "unusual totals"),
        ("license.expiring", "expiring"), ("license.grace_started", "grace started"),
        ("license.expired", "expired"), ("webhook.endpoint_disabled", "endpoint disabled"),
      ])
    page.add(filter)
    page.add(AlertLine.table(alerts, caption: "Alerts", next: next, in: context))
    page.add(DataLinks("/v1/alerts", context.filters(filters), in: context))
    return page
  }

  package struct Detail: Sendable {
    package var alert: AlertLine
    /// What was observed and expected, in the order of display.
    package var facts: [(name: String, value: String)]
    /// The places of the events in the log. Only the vendor sees this.
    package var evidence: [(name: String, value: String)]
    package var json: String
    package var deliveries: [DeliveryLine]

    package init(
      alert: AlertLine, facts: [(name: String, value: String)],
      evidence: [(name: String, value: String)], json: String, deliveries: [DeliveryLine]
    ) {
      self.alert = alert
      self.facts = facts
      self.evidence = evidence
      self.json = json
      self.deliveries = deliveries
    }
  }

  package static func detail(_ data: Detail, in context: PageContext) -> Page {
    var page = Page(Wording.alert(data.alert.type), place: "/alerts")
    page.trail = [Link("Alerts", to: context.url("/alerts"))]
    page.add(
      Verdict(data.alert.tone == .quiet ? .good : data.alert.tone, [Plain(data.alert.summary)]))
    var facts = Facts()
    facts.add("When", Moment(exact: data.alert.time, in: context))
    if let license = data.alert.license {
      facts.add(
        "License",
        LongID(license, to: context.url("/licenses/\(PageContext.segment(license))")))
    }
    if let customer = data.alert.customer, !context.isPortal {
      facts.add(
        "Customer",
        LongID(customer, to: context.url("/customers/\(PageContext.segment(customer))")))
    }
    for fact in data.facts { facts.add(fact.name, LongID(fact.value)) }
    page.add(facts)
    if !data.evidence.isEmpty {
      page.add(Heading("Evidence in the log", anchor: "evidence"))
      var evidence = Facts()
      for fact in data.evidence { evidence.add(fact.name, Code(fact.value)) }
      page.add(evidence)
    }
    page.add(Heading("Deliveries", anchor: "deliveries"))
    page.add(DeliveryLine.table(data.deliveries, caption: "Deliveries of this alert", in: context))
    page.add(
      Folded("What webhooks say", [CodeBlock(data.json, label: "The alert's data as JSON")]))
    if !context.isPortal {
      page.add(
        DataLinks(
          "/v1/alerts/\(PageContext.segment(data.alert.id))", hasCSV: false, in: context))
    }
    return page
  }
}
