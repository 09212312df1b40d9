import JSONText

/// The quantities that Stripe has for one customer and meter, hour by hour.
package struct StripeSummaryPage: Sendable, Equatable {
  package struct Hour: Sendable, Equatable {
    /// The hour in seconds since 1970.
    package var hour: Int64
    /// Nil if it is not a whole number of 64 bits, for example because another program sends
    /// fractions.
    package var value: Int64?
  }

  package var hours: [Hour]
  /// The id after which the next page begins. Nil for the last page.
  package var next: String?

  /// - Parameter body: the answer of `GET /v1/billing/meters/{id}/event_summaries` by hours.
  /// - Returns: nil if it is not such an answer.
  package init?(_ body: [UInt8]) {
    guard let members = StripeList.members(body), let data = members["data"]?.elements else {
      return nil
    }
    hours = []
    var last: String?
    for element in data {
      guard let fields = element.members, let start = fields["start_time"]?.integer else {
        return nil
      }
      hours.append(Hour(hour: start, value: fields["aggregated_value"]?.number?.integer))
      last = fields["id"]?.text
    }
    next = members["has_more"]?.boolean == true ? last : nil
  }
}

/// Stripe's meters with their event names.
package struct StripeMeterPage: Sendable, Equatable {
  package struct Meter: Sendable, Equatable {
    package var id: String
    package var eventName: String
    package var isActive: Bool
    /// Nil if the answer does not say.
    package var formula: String?
    /// Nil if events are not aggregated before, or if the answer does not say.
    package var window: String?
    package var saysWindow: Bool
    package var customerKey: String
    package var valueKey: String

    /// Why events of the mode would be counted wrongly. Nil if they would not.
    package func problem(_ mode: StripeMode) -> String? {
      let name = StripeErrorText.harmless(eventName)
      if !isActive { return "Stripe's meter \(name) is not active" }
      if customerKey != "stripe_customer_id" || valueKey != "value" {
        return "Stripe's meter \(name) must read its customer and value from "
          + "stripe_customer_id and value"
      }
      if let formula, formula != "sum" {
        return "Stripe's meter \(name) has the formula \(StripeErrorText.harmless(formula)), "
          + "but usage needs sum"
      }
      guard saysWindow else { return nil }
      switch (mode, window) {
      case (.sum, nil), (.replace, "hour"): return nil
      case (.sum, _):
        return
          "Stripe's meter \(name) has an event time window, so only its last event counts. "
          + "Export it with mode replace"
      case (.replace, _):
        return
          "Stripe's meter \(name) has no event time window of an hour, so every event is added. "
          + "Export it with mode sum"
      }
    }
  }

  package var meters: [Meter]
  package var next: String?

  package init?(_ body: [UInt8]) {
    guard let members = StripeList.members(body), let data = members["data"]?.elements else {
      return nil
    }
    meters = []
    var last: String?
    for element in data {
      guard let fields = element.members, let id = fields["id"]?.text,
        let name = fields["event_name"]?.text
      else { return nil }
      let mapping = fields["customer_mapping"]?.members
      let values = fields["value_settings"]?.members
      meters.append(
        Meter(
          id: id, eventName: name, isActive: fields["status"]?.text ?? "active" == "active",
          formula: fields["default_aggregation"]?.members?["formula"]?.text,
          window: fields["event_time_window"]?.text,
          saysWindow: fields["event_time_window"] != nil,
          customerKey: mapping?["event_payload_key"]?.text ?? "stripe_customer_id",
          valueKey: values?["event_payload_key"]?.text ?? "value"))
      last = id
    }
    next = members["has_more"]?.boolean == true ? last : nil
  }
}

private enum StripeList {
  static func members(_ body: [UInt8]) -> [JSONMember]? {
    // Nil means that it is not a list from Stripe. Callers need no more detail.
    (try? JSONReader.parse(body, maximumValues: 20_000))?.members
  }
}
