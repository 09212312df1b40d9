/// Rows that several pages have in common. Times are in milliseconds since 1970.

/// A license and how much of a limit it has used.
package struct LicenseUse: Sendable {
  package var license: String
  package var customer: String?
  package var meter: String
  package var used: Int64
  package var limit: Int64

  package init(license: String, customer: String?, meter: String, used: Int64, limit: Int64) {
    self.license = license
    self.customer = customer
    self.meter = meter
    self.used = used
    self.limit = limit
  }

  /// The share of the limit, and the meter that it belongs to.
  var shown: Lines { Lines([Bar(used: used, limit: limit), Quiet(meter)]) }
}

package struct AlertLine: Sendable {
  package var id: String
  package var type: String
  package var license: String?
  package var customer: String?
  package var time: Int64
  /// What happened, in one sentence.
  package var summary: String

  package init(
    id: String, type: String, license: String?, customer: String?, time: Int64, summary: String
  ) {
    self.id = id
    self.type = type
    self.license = license
    self.customer = customer
    self.time = time
    self.summary = summary
  }

  var tone: Tone {
    switch type.split(separator: ".").last ?? "" {
    case "limit_exceeded", "expired", "disabled": .bad
    case "suspicious_activity", "limit_approaching", "grace_started", "expiring", "anomaly":
      .warning
    default: .quiet
    }
  }

  static func table(
    _ alerts: [AlertLine], caption: String, next: String? = nil, showsLicense: Bool = true,
    in context: PageContext
  ) -> Table {
    var table = Table(
      caption, columns: ["Alert", "When"] + (showsLicense ? ["License"] : []) + ["What happened"],
      empty: Empty(
        "There are no alerts here. They come when a limit is reached, a license expires or a key "
          + "is misused."
      ))
    for alert in alerts {
      var cells: [any Component] = [
        Row([
          Link(
            Wording.alert(alert.type), to: context.url("/alerts/\(PageContext.segment(alert.id))"))
        ]),
        Moment(alert.time, in: context),
      ]
      if showsLicense {
        cells.append(
          alert.license.map {
            LongID($0, to: context.url("/licenses/\(PageContext.segment($0))"))
          } ?? Quiet("none") as any Component)
      }
      cells.append(Plain(alert.summary))
      table.add(cells)
    }
    table.continues(at: next, in: context)
    return table
  }
}

package struct EndpointLine: Sendable {
  package var id: String
  package var customer: String?
  package var url: String
  package var events: [String]
  package var status: String
  package var disabledReason: String?
  package var failures: Int64
  package var failingSince: Int64?
  package var createdAt: Int64?

  package init(
    id: String, customer: String?, url: String, events: [String], status: String,
    disabledReason: String?, failures: Int64, failingSince: Int64?, createdAt: Int64?
  ) {
    self.id = id
    self.customer = customer
    self.url = url
    self.events = events
    self.status = status
    self.disabledReason = disabledReason
    self.failures = failures
    self.failingSince = failingSince
    self.createdAt = createdAt
  }

  func health(in context: PageContext) -> any Component {
    if status == "disabled" {
      return Lines([Badge(status: "disabled"), Quiet(disabledReason ?? "")])
    }
    guard failures > 0 else { return Badge("working", .good) }
    var parts: [any Component] = [
      Badge(Wording.count(failures, "failure") + " in a row", .bad)
    ]
    if let failingSince { parts.append(Row([Quiet("since"), Moment(failingSince, in: context)])) }
    return Row(parts)
  }

  static func table(
    _ endpoints: [EndpointLine], caption: String, next: String? = nil, isShort: Bool = false,
    in context: PageContext
  ) -> Table {
    let showsCustomer = !context.isPortal && !isShort
    var table = Table(
      caption,
      columns: ["Address", "Health"] + (showsCustomer ? ["Customer"] : [])
        + (isShort ? [] : ["Events"]),
      empty: Empty(
        "There are no webhook endpoints yet. Add one below"
          + (context.isPortal ? "." : ", or with this command:"),
        command: context.isPortal
          ? nil : "meterctl endpoint add --all-customers --url https://example.com/hooks"))
    for endpoint in endpoints {
      var cells: [any Component] = [
        LongID(
          endpoint.url, to: context.url("/webhooks/\(PageContext.segment(endpoint.id))")),
        endpoint.health(in: context),
      ]
      if showsCustomer {
        cells.append(
          endpoint.customer.map {
            LongID($0, to: context.url("/customers/\(PageContext.segment($0))"))
          } ?? Quiet("all customers") as any Component)
      }
      if !isShort {
        cells.append(
          Plain(endpoint.events.isEmpty ? "all" : endpoint.events.joined(separator: ", ")))
      }
      table.add(cells)
    }
    table.continues(at: next, in: context)
    return table
  }
}

package struct DeliveryLine: Sendable {
  package var id: String
  package var webhookID: String
  package var endpoint: String
  package var type: String
  package var license: String?
  package var status: String
  package var attempts: Int64
  package var nextAttemptAt: Int64?
  package var createdAt: Int64
  package var lastResult: String?

  package init(
    id: String, webhookID: String, endpoint: String, type: String, license: String?,
    status: String, attempts: Int64, nextAttemptAt: Int64?, createdAt: Int64, lastResult: String?
  ) {
    self.id = id
    self.webhookID = webhookID
    self.endpoint = endpoint
    self.type = type
    self.license = license
    self.status = status
    self.attempts = attempts
    self.nextAttemptAt = nextAttemptAt
    self.createdAt = createdAt
    self.lastResult = lastResult
  }

  static func table(
    _ deliveries: [DeliveryLine], caption: String, next: String? = nil, in context: PageContext
  ) -> Table {
    var table = Table(
      caption,
      columns: ["Delivery", "Event", "Status", "#Attempts", "Last result", "When"],
      empty: Empty("Nothing has been delivered here yet. A test delivery shows whether it works."))
    for delivery in deliveries {
      table.add([
        Link(
          delivery.id, to: context.url("/deliveries/\(PageContext.segment(delivery.id))"),
          label: "Delivery \(delivery.id)"),
        Plain(Wording.alert(delivery.type)), Badge(status: delivery.status),
        Quantity(delivery.attempts), Plain(delivery.lastResult ?? "none yet"),
        Moment(delivery.createdAt, in: context),
      ])
    }
    table.continues(at: next, in: context)
    return table
  }
}
