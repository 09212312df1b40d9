import BillingPages
import HTTPTypes
import Metering
import PostgresStore

/// The pages of the customer portal, below `/portal`.
enum PortalPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    [
      Route(.get, "/portal", .own) { request in
        if let link = try request.query.all.first(where: { $0.name == "link" })?.value {
          return try await follow(link, request)
        }
        return try await show.handler(pages, request)
      },
      pages.get("/statements") { visit in
        try visit.caller.require(.billingRead)
        let months = try await StatementPages.months(visit, customer: customer(visit))
        return visit.html(PortalPage.statements(months, in: visit.context))
      },
      pages.get("/statements/{month}") { visit in
        try await StatementPages.show(visit, customer: customer(visit))
      },
    ]
  }

  private static func customer(_ visit: PageVisit) throws(Problem) -> String {
    guard let id = visit.caller.customerID else { throw Problem.notFound }
    return id.string
  }

  private static let show = PortalOverview()

  /// A link signs in once. The answer is a page that leads on by itself, because a browser that
  /// comes from another site would not send the new cookie after a redirect.
  private static func follow(_ link: String, _ request: APIRequest) async throws -> APIAnswer {
    let context = try PageHandling.context(request, nil)
    do {
      let secrets = PageSession.Secrets()
      let made = try await begin(secrets, linkHash: PageSession.hash(link), request)
      guard let made, PageSession(made, name: made.customerID.string) != nil else {
        if try await PageSession.find(.portal, request) != nil {
          return PageAnswer.redirect(to: context.basePath + "/portal")
        }
        let page = ProblemPage.make(
          status: 401, title: "This link cannot be used",
          detail: "It was used before, it was revoked, or it is too old. Ask whoever sent it to "
            + "you for a new one.", in: context)
        return PageAnswer.html(page, in: context, request, kind: .portal, status: .unauthorized)
      }
      var shown = context
      shown.theme = made.theme == "auto" ? nil : made.theme
      var answer = PageAnswer.html(
        PortalPage.welcome(to: context.basePath + "/portal", in: shown), in: shown, request,
        kind: .portal)
      answer.headers[.setCookie] = PageSession.setCookie(secrets.cookie, .portal, request)
      return answer
    } catch {
      return PageHandling.problem(error, context, request, .portal)
    }
  }

  /// Uses a link up and begins its session, or returns nil if the link cannot be used.
  private static func begin(
    _ secrets: PageSession.Secrets, linkHash: String, _ request: APIRequest
  ) async throws -> SessionStore.PortalSession? {
    let database = request.context.database
    // Strangers who guess take no place among the writes.
    guard try await database.access({ try SessionStore($0).isUsable(signInHash: linkHash) }) else {
      return nil
    }
    return try await database.write { connection in
      let session = try SessionStore(connection).signIn(
        signInHash: linkHash, cookieHash: secrets.cookieHash, csrfSecret: secrets.csrf)
      guard let session else { return nil }
      try AuditStore(connection).record(
        AuditedChange(
          "portal_session.sign_in", "portal_session", session.id,
          customerID: session.customerID.string),
        by: SignInPages.audit(request, .portalSession, session.id))
      return session
    }
  }
}

/// `/portal` shows usage against limits.
private struct PortalOverview: Sendable {
  func handler(_ pages: PageHandling, _ request: APIRequest) async throws -> APIAnswer {
    try await pages.get("/") { try await show($0) }.handler(request)
  }

  private func show(_ visit: PageVisit) async throws -> APIAnswer {
    guard let customer = visit.caller.customerID?.string else { throw Problem.notFound }
    let own = visit.session.licenses
    let questions = try await questions(visit, customer)
    async let usage = CustomerPages.charts(visit, questions)
    async let found = visit.client.getIfAllowed(
      "/v1/customers/\(PercentEncoding.encode(customer))")
    async let list = visit.client.get(
      "/v1/licenses", visit.list([("customer_id", customer)], limit: own == nil ? 50 : 1_000))
    async let alerts = visit.client.getIfAllowed("/v1/alerts", [("limit", "10")])
    let licenses = try await list
    let rows = licenses["data"].list.filter { license in
      own.map { ids in license["license_id"].text.map { ids.contains(Identifier($0)) } ?? false }
        ?? true
    }
    let lines = try await LicensePages.withUse(rows, visit)
    let (charts, frame) = try await usage
    var answering = visit
    answering.context.asOf = frame?.asOf
    answering.context.completeThrough = frame?.completeThrough
    let data = PortalPage.Data(
      name: (try await found)?["name"].text ?? customer, licenses: lines,
      usage: charts.map(\.chart),
      alerts: (try await alerts).map { $0["data"].list.map(AlertPages.line) },
      next: licenses["next"].text)
    return answering.html(PortalPage.make(data, in: answering.context))
  }

  /// One question can name only so many licenses.
  private static let licensesPerQuestion = 100

  /// The questions about usage whose answers add up to what the session may see. A license that
  /// belongs to another customer by now is left out.
  private func questions(
    _ visit: PageVisit, _ customer: String
  ) async throws -> [[PageClient.Parameter]] {
    let whole: [PageClient.Parameter] = [("customer_id", customer)]
    guard let own = visit.session.licenses else { return [whole] }
    let found = try await visit.request.read { try UsageStore($0).customers(of: Array(own)) }
    let kept = found.filter { $0.customer == visit.caller.customerID }.map(\.license).sorted()
    return stride(from: 0, to: kept.count, by: Self.licensesPerQuestion).map { first in
      whole
        + kept[first..<min(first + Self.licensesPerQuestion, kept.count)].map {
          ("license_id", $0.string)
        }
    }
  }
}
