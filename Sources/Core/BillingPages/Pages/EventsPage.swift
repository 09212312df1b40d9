/// Shows what happened to one event, and the events behind a number.
package enum EventsPage {
  package struct Event: Sendable {
    package var partition: Int64
    package var offset: Int64
    package var epoch: Int64
    package var id: String
    package var source: String
    package var time: Int64
    package var quantity: Int64
    package var domain: String?
    package var feature: String?
    /// `counted` or `duplicate`.
    package var status: String

    package init(
      partition: Int64, offset: Int64, epoch: Int64, id: String, source: String, time: Int64,
      quantity: Int64, domain: String?, feature: String?, status: String
    ) {
      self.partition = partition
      self.offset = offset
      self.epoch = epoch
      self.id = id
      self.source = source
      self.time = time
      self.quantity = quantity
      self.domain = domain
      self.feature = feature
      self.status = status
    }
  }

  package struct Producer: Sendable {
    package var name: String
    package var topic: String
    package var accepted: Int64?
    package var counted: Int64
    package var duplicates: Int64
    package var deadLettered: Int64
    package var inFlight: Int64?
    package var missing: Int64?
    package var lastReportAt: Int64?

    package init(
      name: String, topic: String, accepted: Int64?, counted: Int64, duplicates: Int64,
      deadLettered: Int64, inFlight: Int64?, missing: Int64?, lastReportAt: Int64?
    ) {
      self.name = name
      self.topic = topic
      self.accepted = accepted
      self.counted = counted
      self.duplicates = duplicates
      self.deadLettered = deadLettered
      self.inFlight = inFlight
      self.missing = missing
      self.lastReportAt = lastReportAt
    }
  }

  package struct Data: Sendable {
    /// Nil if the address asks for no events.
    package var events: [Event]?
    package var next: String?
    /// The time from which the log can prove a number.
    package var provableFrom: Int64?
    /// The reason why the events cannot be shown.
    package var problem: String?
    package var producers: [Producer]

    package init(
      events: [Event]?, next: String?, provableFrom: Int64?, problem: String?,
      producers: [Producer]
    ) {
      self.events = events
      self.next = next
      self.provableFrom = provableFrom
      self.problem = problem
      self.producers = producers
    }
  }

  /// The parameters of the address that choose the events.
  package static let filters = ["license_id", "meter", "from", "to"]

  package static func make(_ data: Data, in context: PageContext) -> Page {
    var page = Page("Events", place: "/events")
    page.add(
      Paragraph(
        "The events behind a number, read back from the log. To find a single event, put its id "
          + "into the search field at the top."))
    var filter = Form(filter: "Show", fields: filters, id: "events", in: context)
    filter.text("license_id", "License", value: context.value("license_id") ?? "", isRequired: true)
    filter.text("meter", "Meter", value: context.value("meter") ?? "api_calls")
    filter.text(
      "from", "From", value: context.value("from") ?? "", isRequired: true,
      placeholder: "2026-11-27T10:00:00Z")
    filter.text(
      "to", "To", value: context.value("to") ?? "", isRequired: true,
      placeholder: "2026-11-27T11:00:00Z")
    page.add(filter)
    if let problem = data.problem { page.add(Notice(.warning, problem)) }
    if let events = data.events { add(events, data, to: &page, in: context) }
    producers(data.producers, on: &page, in: context)
    return page
  }

  private static func add(
    _ events: [Event], _ data: Data, to page: inout Page, in context: PageContext
  ) {
    var table = Table(
      "Events",
      columns: [
        "Event", "Time", "#Quantity", "Status", "Partition, offset", "Source", "Domain", "Feature",
      ],
      empty: Empty("The log has no events of this license and meter in this range."))
    for event in events {
      table.add([
        LongID(event.id), Moment(exact: event.time, in: context), Quantity(event.quantity),
        Badge(status: event.status), Code("\(event.partition), \(event.offset)"),
        LongID(event.source), Plain(event.domain ?? ""), Plain(event.feature ?? ""),
      ])
    }
    table.continues(at: data.next, in: context)
    page.add(table)
    if let from = data.provableFrom {
      page.add(
        Paragraph([Plain("The log begins at "), Moment(exact: from, in: context), Plain(".")]))
    }
    page.add(
      DataLinks(
        "/v1/usage/events", context.filters(filters), in: context))
  }

  private static func producers(
    _ producers: [Producer], on page: inout Page, in context: PageContext
  ) {
    page.add(Heading("Producers", anchor: "producers"))
    page.add(
      Paragraph(
        "Each producer reports how many events it accepted. What is neither counted nor on its way "
          + "is missing."))
    var table = Table(
      "Producers",
      columns: [
        "Producer", "Topic", "#Accepted", "#Counted", "#Duplicates", "#Dead letters", "#On the way",
        "#Missing", "Last report",
      ], empty: Empty("No producer has reported yet."))
    for line in producers {
      table.add([
        LongID(line.name), Code(line.topic), Quantity(line.accepted, orElse: "not reported"),
        Quantity(line.counted), Quantity(line.duplicates), Quantity(line.deadLettered),
        Quantity(line.inFlight, orElse: ""),
        line.missing.map {
          $0 > 0 ? Badge(Wording.number($0), .bad) : Quantity($0) as any Component
        } ?? Plain(""),
        line.lastReportAt.map { Moment($0, in: context) } ?? Quiet("never") as any Component,
      ])
    }
    page.add(table)
  }
}
