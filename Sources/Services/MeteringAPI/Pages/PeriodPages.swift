import Billing
import BillingPages
import HTTPTypes
import JSONText
import Metering

/// `/periods` shows due periods, closes them and records corrections.
enum PeriodPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    let page = PageHandling.FormPage("/periods") { try await show($0) }
    return [
      pages.get(page.path, page.show),
      pages.post("/periods/close", on: page) { try await close($0) },
      pages.post("/adjustments", on: page) { try await adjust($0) },
      pages.post("/adjustments/{id}/reverse", on: page) { visit in
        _ = try await visit.client.send(
          .post, "/v1/adjustments/\(visit.segment())/reverse", key: visit.form.key)
        return visit.redirect(to: "/periods", done: "reversed")
      },
    ]
  }

  static func line(_ period: PageData) -> PeriodLine {
    PeriodLine(
      id: period["period_id"].text ?? "", license: period["license_id"].text ?? "",
      customer: period["customer_id"].text, meter: period["meter"].text ?? "",
      start: period["period_start"].time ?? 0, end: period["period_end"].time ?? 0,
      quantity: period["quantity"].integer ?? 0, late: period["late_quantity"].integer ?? 0,
      included: period["included"].integer, overage: period["overage"].integer,
      status: period["status"].text ?? "open")
  }

  private static func show(_ visit: PageVisit) async throws -> APIAnswer {
    let status = visit.context.value("status") ?? "due"
    let chosen = visit.context.filters(PeriodsPage.filters)
    async let periods = visit.client.get(
      "/v1/periods", visit.list([("status", status)] + chosen))
    async let adjustments = visit.client.getIfAllowed(
      "/v1/adjustments", chosen + [("limit", "50")])
    async let preview = preview(visit)
    let found = try await periods
    var data = PeriodsPage.Data(
      periods: found["data"].list.map(line), next: found["next"].text, preview: nil,
      adjustments: (try await adjustments).map { $0["data"].list.map(adjustment) })
    do {
      data.preview = try await preview
    } catch let problem as Problem where [.badRequest, .notFound].contains(problem.status) {
      data.previewProblem = problem.detail
    }
    return visit.html(PeriodsPage.make(data, notice: visit.notice, in: visit.context))
  }

  /// Previews the periods up to the day in the address, or up to the beginning of this month.
  ///
  /// - Returns: nil for readers who may not close periods of everybody.
  /// - Throws: `Problem` if the address has no day or no customer that exists.
  private static func preview(_ visit: PageVisit) async throws -> PeriodsPage.Preview? {
    let month = ZoneDays(zone: .utc).monthStart(visit.context.now)
    guard visit.caller.customerID == nil, visit.caller.may(.billingRead) else { return nil }
    var end = month
    if let given = visit.filters("ending_before").first?.value {
      guard let day = TimeText.read(given + "T00:00:00Z") else {
        throw Problem(.badRequest, "bad_request", "\(given) is not a day such as 2026-11-01.")
      }
      end = day
    }
    let customer = visit.filters("close_customer").first?.value
    var parameters: [PageClient.Parameter] = [("ending_before", TimeText.write(end))]
    if let customer {
      parameters.append(("customer_id", customer))
      if visit.caller.may(.licensesRead),
        try await visit.client.getIfAllowed("/v1/customers/\(PercentEncoding.encode(customer))")
          == nil
      {
        throw Problem(.notFound, "not_found", "There is no customer with the id \(customer).")
      }
    }
    let found = try await visit.client.get("/v1/periods/close-preview", parameters)
    return PeriodsPage.Preview(
      endingBefore: end, customer: customer, isReady: found["ready"].boolean,
      blockers: found["blockers"].list.map(finding), warnings: found["warnings"].list.map(finding),
      periods: found["periods"].integer ?? 0,
      meters: found["by_meter"].list.map {
        ($0["meter"].text ?? "", $0["quantity"].integer ?? 0, $0["overage"].integer ?? 0)
      })
  }

  private static func finding(_ finding: PageData) -> PeriodsPage.Finding {
    PeriodsPage.Finding(code: finding["code"].text ?? "", detail: finding["detail"].text ?? "")
  }

  private static func adjustment(_ line: PageData) -> PeriodsPage.Adjustment {
    let kind = line["kind"].text ?? ""
    return PeriodsPage.Adjustment(
      id: line["adjustment_id"].shown ?? "", license: line["license_id"].text ?? "",
      meter: line["meter"].text ?? "", kind: kind, quantity: line["quantity"].integer ?? 0,
      appliesTo: line["applies_to_period_start"].time ?? 0,
      invoicedIn: line["invoiced_period_start"].time, reason: line["reason"].text ?? "",
      recordedBy: line["recorded_by"].text ?? "", recordedAt: line["recorded_at"].time ?? 0,
      isReversible: kind == "manual" && line["reverses"].isAbsent && line["reversed_by"].isAbsent)
  }

  // MARK: Changes

  private static func close(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    // The page then shows the same preview, and not one of other periods.
    var same: [PageContext.Parameter] = []
    if let end = form["ending_before"] { same.append(("ending_before", String(end.prefix(10)))) }
    if let customer = form["customer_id"] { same.append(("close_customer", customer)) }
    do {
      let closed = try await visit.client.send(.post, "/v1/periods/close", key: form.key) { json in
        for name in ["ending_before", "customer_id", "reason"] {
          guard let value = form[name] else { continue }
          json.name(name)
          json.text(value)
        }
        if form["force"] == "yes" {
          json.name("force")
          json.boolean(true)
        }
      }
      let done = closed["closed"].integer == 0 ? "closed-none" : "closed"
      return visit.redirect(to: "/periods", done: done, same)
    } catch let problem as Problem where problem.code == "not_ready" {
      // Something has changed since the preview, and the page shows what it is.
      return visit.redirect(to: "/periods", same)
    }
  }

  private static func adjust(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    guard let quantity = form["quantity"].flatMap({ Int64($0) }) else {
      throw Problem.badParameter("quantity", "It must be a whole number. A credit is negative.")
    }
    _ = try await visit.client.send(.post, "/v1/adjustments", key: form.key) { json in
      for name in ["license_id", "meter", "reason"] {
        json.name(name)
        json.text(form[name] ?? "")
      }
      json.name("applies_to_period_start")
      json.text((form["applies_to_period_start"] ?? "") + "T00:00:00Z")
      json.name("quantity")
      json.integer(quantity)
    }
    return visit.redirect(to: "/periods", done: "adjusted")
  }
}
