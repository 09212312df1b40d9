import BillingPages
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// `/events`, `/dead-letters` and the one search field.
enum EventPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [
      pages.get("/events") { try await events($0) },
      pages.get("/dead-letters") { visit in
        let data = try await visit.client.get(
          "/v1/dead-letters", visit.list(visit.context.filters(DeadLettersPage.filters)))
        return visit.html(
          DeadLettersPage.make(
            data["data"].list.map(letter), next: data["next"].text, notice: visit.notice,
            in: visit.context))
      },
      pages.get("/dead-letters/{log_epoch}/{topic}/{partition}/{log_offset}") { visit in
        let found = try await visit.client.get("/v1/dead-letters/" + place(visit))
        let payload = found["payload"]
        let detail = DeadLettersPage.Detail(
          line: letter(found),
          payload: payload["text"].text ?? payload["hex"].text.map { "(not UTF-8) \($0)" }
            ?? "(no value)", key: found["key"]["text"].text ?? found["key"]["hex"].text)
        return visit.html(
          DeadLettersPage.detail(detail, notice: visit.notice, in: visit.context))
      },
      pages.post("/dead-letters/{log_epoch}/{topic}/{partition}/{log_offset}/requeue") { visit in
        try await requeue(visit)
      },
    ]
  }

  private static func place(_ visit: PageVisit) throws -> String {
    try ["log_epoch", "topic", "partition", "log_offset"].map { try visit.segment($0) }
      .joined(separator: "/")
  }

  // MARK: Events behind a number

  private static func events(_ visit: PageVisit) async throws -> APIAnswer {
    if visit.caller.customerID != nil { throw Problem.notFound }
    try visit.caller.require(.usageRead)
    async let ledger = visit.request.read { try UsageReads($0).ledgerRows(limit: 50).rows }
    var data = EventsPage.Data(
      events: nil, next: nil, provableFrom: nil, problem: nil, producers: [])
    let filters = visit.context.filters(EventsPage.filters)
    if filters.contains(where: { $0.name == "license_id" }) {
      do {
        let found = try await visit.client.get("/v1/usage/events", visit.list(filters))
        data.events = found["data"].list.map(event)
        data.next = found["next"].text
        data.provableFrom = found["provable_from"].time
      } catch let problem as Problem {
        data.problem = problem.detail
      }
    }
    data.producers = try await ledger.map { row in
      EventsPage.Producer(
        name: row.producer, topic: row.topic, accepted: row.accepted, counted: row.counted,
        duplicates: row.duplicates, deadLettered: row.deadLettered, inFlight: row.inFlight,
        missing: row.missing, lastReportAt: row.lastReport.flatMap { PageData(text: $0).time })
    }
    return visit.html(EventsPage.make(data, in: visit.context))
  }

  private static func event(_ event: PageData) -> EventsPage.Event {
    EventsPage.Event(
      partition: event["partition"].integer ?? 0, offset: event["offset"].integer ?? 0,
      epoch: event["log_epoch"].integer ?? 0, id: event["id"].text ?? "",
      source: event["source"].text ?? "", time: event["time"].time ?? 0,
      quantity: event["quantity"].integer ?? 0, domain: event["domain"].text,
      feature: event["feature"].text, status: event["status"].text ?? "")
  }

  // MARK: Dead letters

  private static func letter(_ letter: PageData) -> DeadLettersPage.Line {
    let topic = letter["topic"].text ?? ""
    let (partition, offset) = (letter["partition"].integer ?? 0, letter["log_offset"].integer ?? 0)
    return DeadLettersPage.Line(
      place: "\(letter["log_epoch"].integer ?? 0)/\(PercentEncoding.encode(topic))"
        + "/\(partition)/\(offset)",
      topic: topic, partition: partition, offset: offset, reason: letter["reason"].text ?? "",
      detail: letter["detail"].text ?? "", receivedAt: letter["received_at"].time ?? 0,
      requeuedAt: letter["requeued_at"].time, countedAt: letter["counted_at"].time)
  }

  private static func requeue(_ visit: PageVisit) async throws -> APIAnswer {
    let topic = try visit.parameter("topic")
    guard let epoch = Int64(try visit.parameter("log_epoch")),
      let partition = Int64(try visit.parameter("partition")),
      let offset = Int64(try visit.parameter("log_offset"))
    else { throw Problem.notFound }
    _ = try await visit.client.send(.post, "/v1/dead-letters/requeue", key: visit.form.key) {
      json in
      json.name("topic")
      json.text(topic)
      json.name("partition")
      json.integer(partition)
      json.name("log_offset")
      json.integer(offset)
      json.name("log_epoch")
      json.integer(epoch)
    }
    return visit.redirect(to: "/dead-letters/" + (try place(visit)), done: "requeued")
  }
}
