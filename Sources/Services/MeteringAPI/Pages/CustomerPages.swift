import Administration
import Billing
import BillingPages
import HTTPTypes
import JSONText
import Metering

/// `/customers`, `/customers/{id}` and its statements.
enum CustomerPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    let all = PageHandling.FormPage("/customers") { try await list($0) }
    let one = PageHandling.FormPage("/customers/{id}") { try await show($0, portalURL: nil) }
    return [
      pages.get(all.path, all.show),
      pages.post("/customers", on: all) { visit in
        let form = visit.form
        let made = try await visit.client.send(.post, "/v1/customers", key: form.key) { json in
          for name in ["customer_id", "name", "stripe_customer_id"] {
            if let value = form[name] { json.member(name, value) }
          }
        }
        let id = PercentEncoding.encode(made["customer_id"].text ?? "")
        return visit.redirect(to: "/customers/" + id, done: "added")
      },
      pages.post("/customers/{id}/change", on: one) { try await change($0) },
      pages.get(one.path, one.show),
      pages.post("/customers/{id}/portal-sessions", on: one) { try await makeLink($0) },
      pages.post("/customers/{id}/portal-sessions/{session}/revoke") { visit in
        _ = try await visit.client.send(
          .delete, "/v1/customers/\(visit.segment())/portal-sessions/\(visit.segment("session"))")
        return visit.redirect(to: "/customers/\(try visit.segment())", done: "revoked")
      },
      pages.get("/customers/{id}/statements/{month}") { visit in
        try await StatementPages.show(visit, customer: visit.parameter())
      },
    ]
  }

  private static func list(_ visit: PageVisit) async throws -> APIAnswer {
    let data = try await visit.client.get(
      "/v1/customers", visit.list(visit.context.filters(CustomersPage.filters)))
    return visit.html(
      CustomersPage.make(data["data"].list.map(line), next: data["next"].text, in: visit.context))
  }

  private static func change(_ visit: PageVisit) async throws -> APIAnswer {
    let (form, id) = (visit.form, try visit.parameter())
    _ = try await visit.client.send(.patch, "/v1/customers/\(visit.segment())") { json in
      if let name = form.changed("name") { json.member("name", name.isEmpty ? id : name) }
      if let stripe = form.changed("stripe_customer_id") {
        json.member("stripe_customer_id", optional: stripe.isEmpty ? nil : stripe)
      }
    }
    return visit.redirect(to: "/customers/\(try visit.segment())", done: "changed")
  }

  private static func line(_ customer: PageData) -> CustomersPage.Line {
    CustomersPage.Line(
      id: customer["customer_id"].text ?? "", name: customer["name"].text ?? "", licenses: nil,
      createdAt: customer["created_at"].time ?? 0)
  }

  private static func show(_ visit: PageVisit, portalURL: String?) async throws -> APIAnswer {
    let id = try visit.parameter()
    let segment = try visit.segment()
    async let customer = visit.client.get("/v1/customers/\(segment)")
    async let usage = charts(visit, [[("customer_id", id)]])
    async let anomalies = AnomalyMarks.read(visit, from: visit.context.now - 86_400_000 * 32)
    async let licenses = visit.client.getIfAllowed(
      "/v1/licenses", [("customer_id", id), ("limit", "25")])
    async let statements = StatementPages.months(visit, customer: id)
    async let sessions = visit.client.getIfAllowed(
      "/v1/customers/\(segment)/portal-sessions", [("limit", "20")])
    let (found, list) = (try await customer, try await licenses)
    let open = (try await sessions)?["data"].list.filter {
      ["unused", "signed_in"].contains($0["status"].text ?? "")
    }
    let lines = try await LicensePages.withUse(list?["data"].list ?? [], visit)
    let (charts, frame) = try await usage
    let unusual = try await anomalies
    var context = visit.context
    context.asOf = frame?.asOf
    context.completeThrough = frame?.completeThrough
    let data = CustomerPage.Data(
      id: id, name: found["name"].text ?? id, stripeCustomerID: found["stripe_customer_id"].text,
      createdAt: found["created_at"].time ?? 0,
      usage: charts.map { meter, chart in
        var chart = chart
        chart.marks = unusual.marks(meter, customer: id)
        return chart
      }, licenses: lines,
      hasMoreLicenses: list.map { !$0["next"].isAbsent } ?? false,
      statements: try await statements, sessions: (open ?? []).map(session))
    var answering = visit
    answering.context = context
    return answering.html(
      CustomerPage.make(data, notice: visit.notice, portalURL: portalURL, in: context))
  }

  /// This month's usage by day, with one chart for each meter.
  ///
  /// - Parameter questions: the filters of `GET /v1/usage`. The answers are added up.
  static func charts(
    _ visit: PageVisit, _ questions: [[PageClient.Parameter]]
  ) async throws -> (charts: [(meter: String, chart: Chart)], frame: UsageReading.Answer?) {
    guard visit.caller.may(.usageRead) else { return ([], nil) }
    let found = try await UsageReading(visit: visit).sumByMeter(
      questions.map { $0 + [("range", "this_month"), ("fill", "zero")] }, window: "day")
    let charts = found.filter { _, usage in usage.points.contains { $0.value != 0 } }
      .map { meter, usage in
        let unit = OverviewPage.unit(meter)
        let chart = Chart(
          title: "\(unit.prefix(1).uppercased() + unit.dropFirst()) by day", style: .bars,
          from: usage.from, to: usage.to, points: usage.points, unit: unit)
        return (meter, chart)
      }
    return (charts, found.first?.usage)
  }

  private static func session(_ session: PageData) -> CustomerPage.PortalSession {
    CustomerPage.PortalSession(
      id: session["session_id"].text ?? "", expiresAt: session["expires_at"].time ?? 0,
      createdAt: session["created_at"].time ?? 0, isUsed: session["status"].text == "signed_in")
  }

  private static func makeLink(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    let made = try await visit.client.send(
      .post, "/v1/customers/\(visit.segment())/portal-sessions", key: form.key
    ) { json in
      json.name("expires_in")
      json.text(form["expires_in"] ?? "1h")
      json.name("read_only")
      json.boolean(form["read_only"] == "yes")
    }
    return try await show(visit, portalURL: made["url"].text)
  }
}
