import BillingPages
import HTTPTypes
import Metering
import PostgresStore

/// `/search` has one field that takes any id.
enum SearchPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [pages.get("/search") { try await find($0) }]
  }

  private static func find(_ visit: PageVisit) async throws -> APIAnswer {
    let text = String((visit.context.value("q") ?? "").prefix(1_000)).trimmed
    guard !text.isEmpty else {
      return visit.html(SearchPage.make([], remark: nil, in: visit.context))
    }
    let found = try await visit.request.read { try PageReads($0).find(text) }
    var hits = found.filter { isVisible($0, visit.caller) }.map(hit)
    // A webhook-id is never longer.
    if text.utf8.count <= 100,
      let webhook = try await visit.client.getIfAllowed(
        "/v1/webhook-deliveries", [("webhook_id", text), ("limit", "20")])
    {
      hits += webhook["data"].list.map(WebhookPages.delivery).map { delivery in
        SearchPage.Hit(
          kind: "Delivery", id: delivery.id, path: "/deliveries/\(delivery.id)",
          detail: "has this webhook-id and is \(delivery.status)")
      }
    }
    var remark: String?
    // Reading the log takes a while, so it is done only if nothing else was found.
    if hits.isEmpty { (hits, remark) = try await events(text, visit) }
    if hits.count == 1, let path = hits[0].path, hits[0].parameters.isEmpty {
      return visit.redirect(to: path)
    }
    return visit.html(SearchPage.make(hits, remark: remark, in: visit.context))
  }

  private static func isVisible(_ hit: PageReads.Hit, _ caller: Caller) -> Bool {
    if let own = caller.customerID, hit.customer != own { return false }
    return switch hit.kind {
    case .license, .customer: caller.may(.licensesRead)
    case .unregistered: caller.may(.usageRead)
    case .endpoint, .delivery, .alert: caller.may(.webhooksRead)
    case .token: caller.may(.admin)
    }
  }

  private static func hit(_ hit: PageReads.Hit) -> SearchPage.Hit {
    let id = PercentEncoding.encode(hit.id)
    let (kind, path): (String, String) =
      switch hit.kind {
      case .license: ("License", "/licenses/\(id)")
      case .unregistered: ("License id", "/licenses/\(id)")
      case .customer: ("Customer", "/customers/\(id)")
      case .endpoint: ("Endpoint", "/webhooks/\(id)")
      case .delivery: ("Delivery", "/deliveries/\(id)")
      case .alert: ("Alert", "/alerts/\(id)")
      case .token: ("Token", "/tokens")
      }
    return SearchPage.Hit(kind: kind, id: hit.id, path: path, detail: hit.detail)
  }

  /// Finds out what happened to an event, if the log can be read.
  private static func events(
    _ id: String, _ visit: PageVisit
  ) async throws -> ([SearchPage.Hit], String?) {
    do {
      guard
        let found = try await visit.client.getIfAllowed("/v1/events/\(PercentEncoding.encode(id))")
      else { return ([], nil) }
      let hits = found["events"].list.map { event in
        let status = (event["status"].text ?? "").replacing("_", with: " ")
        let place = [event["partition"].shown, event["offset"].shown].compactMap { $0 }
          .joined(separator: ", ")
        return SearchPage.Hit(
          kind: "Event", id: id,
          path: event["license_id"].text.map { "/licenses/\(PercentEncoding.encode($0))" },
          detail: [
            status, place.isEmpty ? "" : "partition and offset \(place)",
            event["traceparent"].text.map { "trace \($0.split(separator: "-")[1])" } ?? "",
          ]
          .filter { !$0.isEmpty }.joined(separator: ", "))
      }
      let remark = "Not all of the log could be searched for an event with this id."
      return (hits, found["is_complete"].boolean ? nil : remark)
    } catch let problem as Problem where problem.status != .unauthorized {
      return ([], "No event was found. \(problem.detail)")
    }
  }
}

extension String {
  fileprivate var trimmed: String {
    var text = self[...]
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}
