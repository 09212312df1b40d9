import Metering

/// One delivery with all attempts: what was sent and what was answered.
package enum DeliveryPage {
  package struct Attempt: Sendable {
    package var number: Int64
    package var time: Int64
    package var statusCode: Int64?
    package var error: String?
    package var milliseconds: Int64
    package var answer: String
    /// The `traceparent` header that was sent.
    package var traceparent: String?

    package init(
      number: Int64, time: Int64, statusCode: Int64?, error: String?, milliseconds: Int64,
      answer: String, traceparent: String? = nil
    ) {
      self.number = number
      self.time = time
      self.statusCode = statusCode
      self.error = error
      self.milliseconds = milliseconds
      self.answer = answer
      self.traceparent = traceparent
    }
  }

  package struct Data: Sendable {
    package var delivery: DeliveryLine
    package var url: String
    package var customer: String?
    package var occurredAt: Int64
    package var finishedAt: Int64?
    package var body: String
    package var attempts: [Attempt]

    package init(
      delivery: DeliveryLine, url: String, customer: String?, occurredAt: Int64, finishedAt: Int64?,
      body: String, attempts: [Attempt]
    ) {
      self.delivery = delivery
      self.url = url
      self.customer = customer
      self.occurredAt = occurredAt
      self.finishedAt = finishedAt
      self.body = body
      self.attempts = attempts
    }
  }

  package static func make(_ data: Data, notice: Notice? = nil, in context: PageContext) -> Page {
    let delivery = data.delivery
    var page = Page("Delivery \(delivery.id)", place: "/webhooks")
    page.aside = [Badge(status: delivery.status)]
    page.trail = [
      Link("Webhooks", to: context.url("/webhooks")),
      Link(
        Wording.shortened(data.url),
        to: context.url("/webhooks/\(PageContext.segment(delivery.endpoint))")),
    ]
    if let notice { page.add(notice) }
    page.add(facts(data, in: context))
    if context.may(.webhooksWrite), delivery.status != "pending" {
      let path = (context.isPortal ? "/portal" : "") + "/deliveries/\(delivery.id)/redeliver"
      page.add(
        Form(
          "Send it again", to: context.basePath + path, id: "redeliver", isInline: true,
          in: context))
    }
    page.add(Heading("What is sent", anchor: "request"))
    page.add(
      CodeBlock(
        "POST \(data.url)\nContent-Type: application/json\nwebhook-id: \(delivery.webhookID)\n"
          + "webhook-timestamp: the time of the attempt\n"
          + "webhook-signature: v1,… made with the endpoint's secret\n\n\(data.body)",
        label: "The request"))
    page.add(Heading("Attempts", anchor: "attempts"))
    attempts(data, on: &page, in: context)
    if !context.isPortal {
      page.add(
        DataLinks("/v1/webhook-deliveries/\(delivery.id)", hasCSV: false, in: context))
    }
    return page
  }

  private static func facts(_ data: Data, in context: PageContext) -> Facts {
    let delivery = data.delivery
    var facts = Facts()
    facts.add("webhook-id", LongID(delivery.webhookID))
    facts.add("Event", delivery.type)
    if let license = delivery.license {
      facts.add(
        "License", LongID(license, to: context.url("/licenses/\(PageContext.segment(license))")))
    }
    facts.add("Happened", Moment(data.occurredAt, in: context))
    if let next = delivery.nextAttemptAt { facts.add("Next attempt", Moment(next, in: context)) }
    if let finished = data.finishedAt { facts.add("Ended", Moment(finished, in: context)) }
    return facts
  }

  private static func attempts(_ data: Data, on page: inout Page, in context: PageContext) {
    let isTraced = data.attempts.contains { $0.traceparent != nil }
    var table = Table(
      "Attempts",
      columns: ["#Attempt", "When", "Answer", "#Duration"] + (isTraced ? ["traceparent"] : []),
      empty: Empty("It has not been tried yet."))
    for attempt in data.attempts {
      let isGood = attempt.statusCode.map { (200..<300).contains($0) } ?? false
      var cells: [any Component] = [
        Quantity(attempt.number), Moment(exact: attempt.time, in: context),
        Row(
          [Badge(attempt.statusCode.map { "status \($0)" } ?? "no answer", isGood ? .good : .bad)]
            + (attempt.error.map { [Plain($0)] } ?? [])),
        Plain("\(Wording.number(attempt.milliseconds)) ms"),
      ]
      if isTraced { cells.append(LongID(attempt.traceparent ?? "")) }
      table.add(cells)
    }
    page.add(table)
    for attempt in data.attempts.suffix(3) where !attempt.answer.isEmpty {
      page.add(
        Folded(
          "The answer to attempt \(attempt.number), its first KiB",
          [CodeBlock(attempt.answer, label: "The answer to attempt \(attempt.number)")]))
    }
  }
}
