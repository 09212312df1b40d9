import Metering

/// Records that could not be counted, with the reasons.
package enum DeadLettersPage {
  package struct Line: Sendable {
    /// The place as a path: epoch, topic, partition and offset.
    package var place: String
    package var topic: String
    package var partition: Int64
    package var offset: Int64
    package var reason: String
    package var detail: String
    package var receivedAt: Int64
    package var requeuedAt: Int64?
    package var countedAt: Int64?

    package init(
      place: String, topic: String, partition: Int64, offset: Int64, reason: String,
      detail: String, receivedAt: Int64, requeuedAt: Int64?, countedAt: Int64?
    ) {
      self.place = place
      self.topic = topic
      self.partition = partition
      self.offset = offset
      self.reason = reason
      self.detail = detail
      self.receivedAt = receivedAt
      self.requeuedAt = requeuedAt
      self.countedAt = countedAt
    }

    var status: Badge {
      if countedAt != nil { return Badge("counted later", .good) }
      return requeuedAt != nil ? Badge("sent again", .warning) : Badge("not counted", .bad)
    }
  }

  package struct Detail: Sendable {
    package var line: Line
    package var payload: String
    package var key: String?

    package init(line: Line, payload: String, key: String?) {
      self.line = line
      self.payload = payload
      self.key = key
    }
  }

  /// The parameters of the address that choose the dead letters.
  package static let filters = ["status", "reason", "topic", "partition"]

  package static func make(
    _ lines: [Line], next: String?, notice: Notice? = nil, in context: PageContext
  ) -> Page {
    var page = Page("Dead letters", place: "/dead-letters")
    if let notice { page.add(notice) }
    page.add(
      Paragraph(
        "A dead letter is a record of the log that could not be counted. It is kept with "
          + "the reason, and its neighbors are counted. Once the cause is fixed, it can be sent "
          + "again and counts once."))
    var table = Table(
      "Dead letters", columns: ["Place in the log", "Reason", "Detail", "Status", "When"],
      empty: Empty("There are no dead letters: every record of the log could be counted."))
    for line in lines {
      table.add([
        Link(
          "\(line.topic) \(line.partition)/\(line.offset)",
          to: context.url("/dead-letters/\(line.place)")),
        Code(line.reason), Plain(line.detail), line.status, Moment(line.receivedAt, in: context),
      ])
    }
    table.continues(at: next, in: context)
    page.add(table)
    page.add(DataLinks("/v1/dead-letters", context.filters(filters), in: context))
    return page
  }

  package static func detail(
    _ data: Detail, notice: Notice? = nil, in context: PageContext
  ) -> Page {
    let line = data.line
    var page = Page("Dead letter at \(line.partition)/\(line.offset)", place: "/dead-letters")
    page.aside = [line.status]
    page.trail = [Link("Dead letters", to: context.url("/dead-letters"))]
    if let notice { page.add(notice) }
    page.add(
      Verdict(
        .warning, [Plain("It was not counted: "), Code(line.reason), Plain(". \(line.detail)")]))
    var facts = Facts()
    facts.add("Topic", Code(line.topic))
    facts.add("Partition and offset", "\(line.partition), \(line.offset)")
    facts.add("Received", Moment(exact: line.receivedAt, in: context))
    if let key = data.key { facts.add("Key", LongID(key)) }
    if let time = line.requeuedAt { facts.add("Sent again", Moment(time, in: context)) }
    if let time = line.countedAt { facts.add("Counted", Moment(time, in: context)) }
    page.add(facts)
    page.add(Heading("The record", anchor: "record"))
    page.add(CodeBlock(data.payload, label: "The record as it was received"))
    if context.may(.admin), line.countedAt == nil {
      page.add(
        Form(
          "Send it to the log again",
          to: context.basePath + "/dead-letters/\(line.place)/requeue",
          id: "requeue", isInline: true, in: context))
    }
    return page
  }
}
