import BillingPages
import Metering

/// The pages of statements, for the vendor and in the portal.
enum StatementPages {
  /// The months that have a statement, newest first.
  static func months(
    _ visit: PageVisit, customer: String
  ) async throws -> [CustomerPage.Statement] {
    let data = try await visit.client.getIfAllowed(
      "/v1/customers/\(PercentEncoding.encode(customer))/statements", [("limit", "36")])
    return (data?["data"].list ?? []).map { statement in
      CustomerPage.Statement(
        month: statement["month"].text ?? "", status: statement["status"].text ?? "open")
    }
  }

  static func show(_ visit: PageVisit, customer: String) async throws -> APIAnswer {
    let month = try visit.segment("month")
    let path = "/v1/customers/\(PercentEncoding.encode(customer))/statements/\(month)"
    if visit.context.value("format") == "csv" {
      return try await visit.client.answer(path, [("format", "csv")])
    }
    async let name = visit.client.getIfAllowed("/v1/customers/\(PercentEncoding.encode(customer))")
    let found = try await visit.client.get(path)
    let statement = found["statement"].isAbsent ? found : found["statement"]
    let data = StatementPage.Data(
      customer: customer, name: (try await name)?["name"].text ?? customer,
      month: try visit.parameter("month"), status: statement["status"].text ?? "open",
      lines: statement["lines"].list.map(line), totals: totals(statement["totals"]),
      signature: found["signature"].text ?? statement["signature"].text,
      closedAt: statement["closed_at"].time)
    var context = visit.context
    context.asOf = statement["as_of"].time
    context.completeThrough = statement["complete_through"].time
    var answering = visit
    answering.context = context
    return answering.html(StatementPage.make(data, in: context))
  }

  private static func line(_ line: PageData) -> StatementPage.Line {
    let domains = line["domains"].isAbsent ? line["by_domain"] : line["domains"]
    return StatementPage.Line(
      license: line["license_id"].text ?? "", meter: line["meter"].text ?? "",
      periodStart: line["period_start"].time ?? 0, periodEnd: line["period_end"].time ?? 0,
      quantity: line["quantity"].integer ?? 0, included: line["included"].integer,
      overage: line["overage"].integer,
      adjustments: line["adjustments"].list.map { adjustment in
        StatementPage.Adjustment(
          kind: adjustment["kind"].text ?? "", quantity: adjustment["quantity"].integer ?? 0,
          reason: adjustment["reason"].text ?? "",
          periodStart: adjustment["applies_to_period_start"].time ?? 0)
      }, billable: line["billable_quantity"].integer ?? 0,
      domains: domains.list.map { share in
        LicensePage.Share(
          value: share["domain"].text ?? share["value"].text ?? "",
          quantity: share["quantity"].integer ?? 0)
      })
  }

  private static func totals(_ totals: PageData) -> [StatementPage.Total] {
    totals.list.map { total in
      StatementPage.Total(
        meter: total["meter"].text ?? "", quantity: total["quantity"].integer ?? 0,
        adjustments: total["adjustments"].integer ?? total["adjustment_quantity"].integer ?? 0,
        overage: total["overage"].integer ?? 0,
        billable: total["billable_quantity"].integer ?? 0)
    }
  }
}
