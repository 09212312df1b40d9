import Administration
import Billing
import BillingPages
import HTTPTypes
import JSONText
import Metering

/// `/webhooks`, `/webhooks/{id}` and `/deliveries/{id}`.
enum WebhookPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    let all = PageHandling.FormPage("/webhooks") { try await list($0, secret: nil) }
    let one = PageHandling.FormPage("/webhooks/{id}") { try await show($0, secret: nil) }
    return [
      pages.get(all.path, all.show),
      pages.post("/webhooks", on: all) { try await add($0) },
      pages.get(one.path, one.show),
      pages.post("/webhooks/{id}/test") { try await act($0, "test", "tested") },
      pages.post("/webhooks/{id}/enable") { try await act($0, "enable", "enabled") },
      pages.post("/webhooks/{id}/recover", on: one) { try await recover($0) },
      pages.post("/webhooks/{id}/rotate-secret") { try await rotate($0) },
      pages.post("/webhooks/{id}/delete", on: one) { try await delete($0) },
      pages.get("/deliveries/{id}") { try await showDelivery($0) },
      pages.post("/deliveries/{id}/redeliver") { visit in
        let path = "/deliveries/\(try visit.segment())"
        _ = try await visit.client.send(
          .post, "/v1/webhook-deliveries/\(visit.segment())/redeliver", key: visit.form.key)
        return visit.redirect(to: path, done: "redelivered")
      },
    ]
  }

  static func line(_ endpoint: PageData) -> EndpointLine {
    EndpointLine(
      id: endpoint["endpoint_id"].text ?? "", customer: endpoint["customer_id"].text,
      url: endpoint["url"].text ?? "", events: endpoint["events"].texts,
      status: endpoint["status"].text ?? "", disabledReason: endpoint["disabled_reason"].text,
      failures: endpoint["consecutive_failures"].integer ?? 0,
      failingSince: endpoint["failing_since"].time, createdAt: endpoint["created_at"].time)
  }

  static func delivery(_ delivery: PageData) -> DeliveryLine {
    let code = delivery["last_status_code"].integer.map { "status \($0)" }
    return DeliveryLine(
      id: delivery["delivery_id"].shown ?? "", webhookID: delivery["webhook_id"].text ?? "",
      endpoint: delivery["endpoint_id"].text ?? "", type: delivery["type"].text ?? "",
      license: delivery["license_id"].text, status: delivery["status"].text ?? "",
      attempts: delivery["attempts"].integer ?? 0,
      nextAttemptAt: delivery["next_attempt_at"].time,
      createdAt: delivery["created_at"].time ?? 0,
      lastResult: error(delivery["last_error"]) ?? code)
  }

  /// Leaves out an error that only repeats the answer's status.
  private static func error(_ data: PageData) -> String? {
    data.text.flatMap { $0 == "status" ? nil : $0 }
  }

  // MARK: Endpoints

  private static func list(
    _ visit: PageVisit, secret: WebhooksPage.Secret?
  ) async throws -> APIAnswer {
    async let endpoints = visit.client.get("/v1/webhook-endpoints", visit.list([]))
    async let deliveries = visit.client.get(
      "/v1/webhook-deliveries",
      visit.context.filters(WebhooksPage.deliveryFilters) + [("limit", "25")])
    let found = try await endpoints
    return visit.html(
      WebhooksPage.make(
        found["data"].list.map(line), next: found["next"].text,
        deliveries: try await deliveries["data"].list.map(delivery), secret: secret,
        notice: visit.notice, in: visit.context))
  }

  private static func add(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    let made = try await visit.client.send(.post, "/v1/webhook-endpoints", key: form.key) { json in
      json.name("url")
      json.text(form["url"] ?? "")
      // In a session of one customer, the endpoint belongs to that customer.
      if let customer = form["customer_id"] ?? visit.caller.customerID?.string {
        json.name("customer_id")
        json.text(customer)
      }
      let events = (form["events"] ?? "").split { ", ;\n".contains($0) }.map(String.init)
      if !events.isEmpty {
        json.name("events")
        json.beginArray()
        for event in events { json.text(event) }
        json.endArray()
      }
    }
    return try await list(
      visit,
      secret: made["secret"].text.map {
        WebhooksPage.Secret(url: made["url"].text ?? "", secret: $0)
      })
  }

  private static func show(
    _ visit: PageVisit, secret: String?
  ) async throws -> APIAnswer {
    let endpoint = line(try await visit.client.get("/v1/webhook-endpoints/\(visit.segment())"))
    let deliveries = try await visit.client.get(
      "/v1/webhook-deliveries", visit.list([("endpoint_id", endpoint.id)]))
    return visit.html(
      WebhooksPage.endpoint(
        endpoint, deliveries: deliveries["data"].list.map(delivery),
        next: deliveries["next"].text,
        secret: secret.map { WebhooksPage.Secret(url: endpoint.url, secret: $0) },
        notice: visit.notice, in: visit.context))
  }

  private static func act(
    _ visit: PageVisit, _ action: String, _ done: String
  ) async throws -> APIAnswer {
    _ = try await visit.client.send(
      .post, "/v1/webhook-endpoints/\(visit.segment())/\(action)", key: visit.form.key)
    return visit.redirect(to: "/webhooks/\(try visit.segment())", done: done)
  }

  private static func recover(_ visit: PageVisit) async throws -> APIAnswer {
    let now = visit.context.now
    let since = try time(visit.form["since"], "since")
    let until =
      try visit.form["until"].map { try time($0, "until") } ?? TimeText.write(now - now % 1000)
    let made = try await visit.client.send(
      .post, "/v1/webhook-endpoints/\(visit.segment())/recover", key: visit.form.key
    ) { json in
      json.name("since")
      json.text(since)
      json.name("until")
      json.text(until)
    }
    let isPart = made["recovered"].integer == Int64(Administrator.maximumRecovered)
    return visit.redirect(
      to: "/webhooks/\(try visit.segment())", done: isPart ? "recovered-part" : "recovered")
  }

  /// Reads the value of a browser's date and time field as UTC.
  private static func time(_ text: String?, _ name: String) throws(Problem) -> String {
    guard let text else { throw Problem.badParameter(name, "Give a date and a time.") }
    let whole = text.utf8.count == 16 ? text + ":00Z" : text.hasSuffix("Z") ? text : text + "Z"
    guard TimeText.read(whole) != nil else {
      throw Problem.badParameter(name, "Write it as 2026-11-27T10:00.")
    }
    return whole
  }

  private static func rotate(_ visit: PageVisit) async throws -> APIAnswer {
    let made = try await visit.client.send(
      .post, "/v1/webhook-endpoints/\(visit.segment())/rotate-secret", key: visit.form.key)
    return try await show(visit, secret: made["secret"].text)
  }

  private static func delete(_ visit: PageVisit) async throws -> APIAnswer {
    guard visit.form["confirm"] == "yes" else {
      throw Problem(.badRequest, "not_confirmed", "Tick the box to delete the endpoint.")
    }
    _ = try await visit.client.send(.delete, "/v1/webhook-endpoints/\(visit.segment())")
    return visit.redirect(to: "/webhooks", done: "deleted")
  }

  // MARK: Deliveries

  private static func showDelivery(_ visit: PageVisit) async throws -> APIAnswer {
    let found = try await visit.client.get("/v1/webhook-deliveries/\(visit.segment())")
    let attempts = found["attempt_log"].list.map { attempt in
      DeliveryPage.Attempt(
        number: attempt["attempt"].integer ?? 0, time: attempt["at"].time ?? 0,
        statusCode: attempt["status_code"].integer, error: error(attempt["error"]),
        milliseconds: attempt["duration_ms"].integer ?? 0,
        answer: attempt["response"].text ?? "", traceparent: attempt["traceparent"].text)
    }
    let data = DeliveryPage.Data(
      delivery: delivery(found), url: found["url"].text ?? "",
      customer: found["customer_id"].text, occurredAt: found["occurred_at"].time ?? 0,
      finishedAt: found["finished_at"].time, body: found["body"].json, attempts: attempts)
    return visit.html(DeliveryPage.make(data, notice: visit.notice, in: visit.context))
  }
}
