import BillingPages
import Metering

/// `/alerts` and `/alerts/{id}`.
enum AlertPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [
      pages.get("/alerts") { visit in
        let data = try await visit.client.get(
          "/v1/alerts", visit.list(visit.context.filters(AlertsPage.filters)))
        return visit.html(
          AlertsPage.make(
            data["data"].list.map(line), next: data["next"].text, in: visit.context))
      },
      pages.get("/alerts/{id}") { try await show($0) },
    ]
  }

  static func line(_ alert: PageData) -> AlertLine {
    let type = alert["type"].text ?? ""
    let data = alert["data"]
    return AlertLine(
      id: alert["alert_id"].shown ?? "", type: type, license: alert["license_id"].text,
      customer: alert["customer_id"].text, time: alert["occurred_at"].time ?? 0,
      summary: AlertWords.summary(type: type) { data[$0].shown })
  }

  private static func show(_ visit: PageVisit) async throws -> APIAnswer {
    let alert = try await visit.client.get("/v1/alerts/\(visit.segment())")
    let deliveries = try await visit.client.getIfAllowed(
      "/v1/webhook-deliveries", [("alert_id", try visit.parameter()), ("limit", "50")])
    let detail = AlertsPage.Detail(
      alert: line(alert), facts: facts(alert["data"]), evidence: evidence(alert["evidence"]),
      json: alert["data"].json,
      deliveries: deliveries?["data"].list.map(WebhookPages.delivery) ?? [])
    return visit.html(AlertsPage.detail(detail, in: visit.context))
  }

  /// The places of the events in the log. Some alerts have one place, and others have a list.
  private static func evidence(_ data: PageData) -> [(name: String, value: String)] {
    let places = data.list.isEmpty ? [data] : data.list
    let order = ["Topic", "Log epoch", "Partition", "First offset", "Last offset"]
    return places.flatMap { place -> [(name: String, value: String)] in
      let found = facts(place)
      let known = order.flatMap { name in found.filter { $0.name == name } }
      return known + found.filter { !order.contains($0.name) }
    }
  }

  /// Turns names such as `requested_domain` into labels such as "Requested domain".
  private static func facts(_ data: PageData) -> [(name: String, value: String)] {
    data.members.compactMap { name, value in
      guard name != "license_id", let shown = value.shown else { return nil }
      let words = name.replacing("_", with: " ")
      return (words.prefix(1).uppercased() + words.dropFirst(), shown)
    }
  }
}
