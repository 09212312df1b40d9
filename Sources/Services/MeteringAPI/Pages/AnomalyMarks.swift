import Billing
import BillingPages
import Metering

/// Unusual totals (`usage.anomaly`), which charts of usage mark.
enum AnomalyMarks {
  struct Found: Sendable {
    var meter: String
    /// Nil for the total of all customers.
    var customer: String?
    var mark: Chart.Mark
  }

  /// Reads the marks. Readers who may not see the alerts of the whole installation get none.
  ///
  /// - Parameter from: the time of the earliest alert, in milliseconds since 1970.
  static func read(_ visit: PageVisit, from: Int64) async throws -> [Found] {
    guard visit.caller.customerID == nil else { return [] }
    let alerts = try await visit.client.getIfAllowed(
      "/v1/alerts",
      [("type", "usage.anomaly"), ("from", TimeText.write(from)), ("limit", "1000")])
    return (alerts?["data"].list ?? []).map { alert in
      let line = AlertPages.line(alert)
      let data = alert["data"]
      let began = data["status"].text == "ended" ? nil : data["since"].time
      return Found(
        meter: data["meter"].text ?? "", customer: data["customer_id"].text,
        mark: Chart.Mark(
          time: began ?? line.time, text: line.summary,
          tone: began == nil ? .quiet : .warning))
    }
  }
}

extension [AnomalyMarks.Found] {
  /// The marks of a meter. On charts of one customer they are that customer's marks.
  func marks(_ meter: String, customer: String? = nil) -> [Chart.Mark] {
    filter { found in
      guard found.meter == meter else { return false }
      return customer == nil
        || found.customer.map(Identifier.init(_:)) == customer.map(Identifier.init(_:))
    }.map(\.mark)
  }
}
