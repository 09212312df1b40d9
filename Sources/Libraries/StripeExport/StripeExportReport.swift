package import Billing
package import JSONText

/// The result of an export.
package struct StripeExportReport: Sendable {
  package var mode: StripeMode
  /// The export considered hours that end by this time, in milliseconds since 1970.
  package var through: Int64
  package var completeThrough: Int64
  /// The number of events that this export made, and the sum of their values.
  package var planned: Int64 = 0
  package var plannedQuantity: Int64 = 0
  /// The number of events that Stripe accepted during this export, including events of earlier
  /// exports.
  package var sent: Int64 = 0
  /// The number of events that wait for the next export.
  package var pending: Int64 = 0
  /// The number of rows by status, except for sent ones.
  package var counts: [String: Int64] = [:]
  /// The first hundred customers without a `stripe_customer_id`.
  package var unlinkedCustomers: [String] = []
  package var isFinished = false
  /// Why sending stopped early.
  package var problem: String?
  /// The first events that a dry run would send.
  package var listed: [StripeEvent] = []

  package init(mode: StripeMode, through: Int64, completeThrough: Int64) {
    self.mode = mode
    self.through = through
    self.completeThrough = completeThrough
  }

  /// The statuses that people have to look at, in the order of the report.
  package static let told: [StripeStatus] = [
    .credit, .unlinked, .tooOld, .tooLarge, .shared, .refused, .unsettled,
  ]

  package func count(_ status: StripeStatus) -> Int64 { counts[status.rawValue] ?? 0 }

  /// Writes the answer of `POST /v1/exports/stripe`.
  package func write(to json: inout JSONWriter, quotesQuantities: Bool = false) {
    json.member("status", isFinished ? "finished" : "sending")
    json.member("mode", mode.rawValue)
    json.member("through", TimeText.write(through))
    json.member("complete_through", TimeText.write(completeThrough))
    json.member("planned", planned)
    json.name("planned_quantity")
    if quotesQuantities {
      json.text(String(plannedQuantity))
    } else {
      json.integer(plannedQuantity)
    }
    json.member("sent", sent)
    json.member("pending", pending)
    for status in Self.told { json.member(status.rawValue, count(status)) }
    json.member("unlinked_customers", unlinkedCustomers)
  }
}

/// Why nothing was exported.
package enum StripeExportRefusal: Error, Sendable, CustomStringConvertible {
  /// The numbers are incomplete. The code is `lag` or `missing`, as for the close of periods.
  case notReady(code: String, detail: String)
  /// Another export is under way.
  case underway
  /// Stripe's meters do not fit the mode.
  case meters(String)
  /// No meter is configured.
  case noMeters
  /// Stripe does not let us in, or does not answer.
  case stripe(String)

  package var description: String {
    switch self {
    case .notReady(_, let detail): detail
    case .underway: "another export is under way, so try again when it has ended"
    case .meters(let detail): detail
    case .noMeters:
      "set METER_STRIPE_METERS to Stripe's event name for each meter, such as api_calls=api_calls"
    case .stripe(let detail): detail
    }
  }
}
