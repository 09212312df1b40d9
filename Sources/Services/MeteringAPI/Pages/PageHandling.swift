import BillingPages
import Foundation
import HTTPTypes
import Logging
import Metering
import PostgresStore
import SystemRandom

/// Turns a request into a visit, and an error into a page that describes it.
struct PageHandling: Sendable {
  typealias Handler = @Sendable (PageVisit) async throws -> APIAnswer

  let router: Router
  let kind: PageSession.Kind

  /// The route of a page to read.
  func get(_ path: String, _ handler: @escaping Handler) -> Route {
    Route(.get, prefixed(path), .own) { request in
      try await answer(request) { visit in try await handler(visit) }
    }
  }

  /// The page that a form stands on.
  struct FormPage: Sendable {
    let path: String
    let show: Handler

    init(_ path: String, _ show: @escaping Handler) {
      self.path = path
      self.show = show
    }
  }

  /// The route of a form that changes something.
  ///
  /// - Parameter page: shows the form again, with what was entered, if the form is refused. Without
  ///   it, a refusal is a page of its own.
  func post(
    _ path: String, on page: FormPage? = nil, _ handler: @escaping Handler
  ) -> Route {
    Route(.post, prefixed(path), .own) { request in
      try await answer(request) { visit in
        guard PageHandling.isFromHere(request), visit.session.accepts(csrf: visit.form["csrf"])
        else {
          throw Problem(
            .forbidden, "bad_form",
            "This form does not belong to your session. Go back, load the page again and repeat.")
        }
        defer { request.context.tokens.forgetAll(after: visit.caller) }
        guard let page else { return try await handler(visit) }
        do {
          return try await handler(visit)
        } catch let problem as Problem where Self.refusals.contains(problem.status.code) {
          return try await again(page, problem, visit)
        }
      }
    }
  }

  /// The answers that blame what was entered.
  private static let refusals = [400, 404, 409, 422]

  /// Shows the page of a form that was refused, with the filters that it had before.
  private func again(
    _ page: FormPage, _ problem: Problem, _ visit: PageVisit
  ) async throws -> APIAnswer {
    var visit = visit
    visit.context.path = Self.path(prefixed(page.path), visit.request)
    visit.context.query = Self.queryBefore(visit.request, visit.context)
    visit.context.zone = visit.context.value("time_zone").flatMap(Self.zone) ?? .utc
    // The id of a form is the part of its key behind the random text.
    let form = visit.form["once"]?.split(separator: "-", maxSplits: 1).dropFirst().first
    visit.context.refused = RefusedForm(
      form: form.map(String.init), fields: visit.form.fields,
      detail: problem.status == .badRequest && !problem.errors.isEmpty ? nil : problem.detail,
      errors: problem.errors.map { ($0.parameter, $0.detail) })
    var answer = try await page.show(visit)
    answer.status = problem.status
    return answer
  }

  /// The query of the page that a form was sent from, if the browser reports it.
  private static func queryBefore(
    _ request: APIRequest, _ context: PageContext
  ) -> [PageContext.Parameter] {
    guard let name = HTTPField.Name("Referer"), let address = request.headers[name] else {
      return []
    }
    let (path, query) = API.target(address)
    guard path == context.basePath + context.path else { return [] }
    let all = (try? Fields(urlEncoded: query).all) ?? []  // An unreadable query filters nothing.
    return all.filter { $0.name != "done" && $0.name != "refresh" }
  }

  private static func path(_ template: String, _ request: APIRequest) -> String {
    request.parameters.reduce(template) { path, parameter in
      path.replacing("{\(parameter.key)}", with: PercentEncoding.encode(parameter.value))
    }
  }

  private func prefixed(_ path: String) -> String {
    kind == .vendor ? path : path == "/" ? "/portal" : "/portal" + path
  }

  private func answer(_ request: APIRequest, _ handler: Handler) async throws -> APIAnswer {
    var context = try PageHandling.context(request, nil)
    do {
      guard let session = try await PageSession.find(kind, request) else {
        return signIn(request, context)
      }
      context = try PageHandling.context(request, session)
      var request = request
      request.caller = session.caller
      let visit = PageVisit(
        request: request, session: session,
        client: PageClient(router: router, request: request, caller: session.caller),
        context: context, form: PageForm(fields: try PageHandling.fields(request)))
      return try await handler(visit)
    } catch {
      return PageHandling.problem(error, context, request, kind)
    }
  }

  /// The page for a visitor who is not signed in. The vendor sees a form for a token, and customers
  /// read how to get a link.
  private func signIn(_ request: APIRequest, _ context: PageContext) -> APIAnswer {
    if kind == .portal {
      let page = ProblemPage.make(
        status: 401, title: "You are not signed in",
        detail: "Your session has ended, or you opened this page without a sign-in link. Ask "
          + "whoever sent you the link for a new one.", in: context)
      return PageAnswer.html(page, in: context, request, kind: kind, status: .unauthorized)
    }
    let base = request.context.settings.basePath
    let isGet = request.route.method == .get
    let here = isGet ? context.here([]) : base + "/"
    return PageAnswer.redirect(to: "\(base)/sign-in?next=\(PercentEncoding.encode(here))")
  }

  // MARK: What a page knows

  static func context(_ request: APIRequest, _ session: PageSession?) throws -> PageContext {
    let settings = request.context.settings
    let query = (try? request.query.all) ?? []  // An unreadable query filters nothing.
    let zone =
      query.first { $0.name == "time_zone" }.flatMap { Self.zone($0.value) } ?? DisplayZone.utc
    let host = PageVisit.host(request).map { "\(settings.scheme)://\($0)" }
    var context = PageContext(
      basePath: settings.basePath, path: path(request.route.path, request),
      query: query.filter { $0.name != "done" },
      zone: zone,
      now: Int64(Date().timeIntervalSince1970 * 1000),
      origin: settings.publicURL ?? host ?? "\(settings.scheme)://\(settings.bind)",
      session: session.map {
        .init(
          name: $0.name, csrf: $0.csrf, scopes: $0.caller.scopes, isPortal: $0.kind == .portal,
          customer: $0.caller.customerID?.string, returnURL: $0.returnURL)
      })
    context.once = SystemRandom.hexadecimal(bytes: 8)
    context.theme = session?.theme
    context.done = query.first { $0.name == "done" }?.value
    return context
  }

  /// Finds a zone by its IANA name, or returns nil.
  private static func zone(_ name: String) -> DisplayZone? {
    if name == "UTC" || name.isEmpty { return .utc }
    guard name.utf8.count <= 64, TimeZone.knownTimeZoneIdentifiers.contains(name),
      let zone = TimeZone(identifier: name)
    else { return nil }
    return DisplayZone(name: name) { time in
      let date = Date(timeIntervalSince1970: Double(time) / 1000)
      let seconds = Int64(zone.secondsFromGMT(for: date))
      return (seconds, zone.abbreviation(for: date) ?? name)
    }
  }

  static func fields(_ request: APIRequest) throws -> [(name: String, value: String)] {
    request.route.method == .post ? try request.form.all : []
  }

  /// Whether the form comes from this site, as browsers report. A client that does not report it
  /// still needs the CSRF token.
  static func isFromHere(_ request: APIRequest) -> Bool {
    if let name = HTTPField.Name("Sec-Fetch-Site"), let site = request.headers[name] {
      return site == "same-origin" || site == "none"
    }
    guard let origin = request.headers[.origin] else { return true }
    let host = origin.split(separator: "/").last.map(String.init) ?? ""
    let own = request.context.settings.publicURL?.split(separator: "/").dropFirst().first
    return host == PageVisit.host(request) || own.map { host == $0 } ?? false
  }

  // MARK: Problems

  static func problem(
    _ error: any Error, _ context: PageContext, _ request: APIRequest, _ kind: PageSession.Kind
  ) -> APIAnswer {
    let (status, title, detail, isRetried) = words(error, request)
    var shown = context
    // Only a page to read can be reloaded safely.
    if isRetried, request.route.method == .get { shown.retrySeconds = 3 }
    let page = ProblemPage.make(
      status: status.code, title: title, detail: detail, isRetried: isRetried, in: shown)
    var answer = PageAnswer.html(page, in: shown, request, kind: kind, status: status)
    if status == .serviceUnavailable { answer.headers[.retryAfter] = "3" }
    return answer
  }

  private static func title(_ problem: Problem) -> String {
    switch problem.status.code {
    case 403: "This is not allowed"
    case 404: "Not found"
    case 400, 409, 422: "This could not be done"
    default: problem.status.reasonPhrase
    }
  }

  private static func words(
    _ error: any Error, _ request: APIRequest
  ) -> (HTTPResponse.Status, String, String, Bool) {
    switch error {
    case let problem as Problem:
      var detail = problem.detail
      if problem.errors.count > 1 {
        detail += problem.errors.map { " \($0.parameter): \($0.detail)" }.joined()
      }
      return (problem.status, title(problem), detail, problem.status == .serviceUnavailable)
    case let unavailable as DatabaseUnavailable:
      let away =
        "This page reloads by itself once PostgreSQL answers again. No usage is lost, because "
        + "events wait in the log."
      if case .busy = unavailable {
        return (
          .serviceUnavailable, "Too many requests are waiting", "Try again in a moment.", true
        )
      }
      return (.serviceUnavailable, "The database does not answer", away, true)
    default:
      let problem = API.problem(error, request.id, request.context)
      if problem.status == .internalServerError {
        return (
          problem.status, "Something went wrong",
          "The service's log describes it under the request id \(request.id).", false
        )
      }
      return words(problem, request)
    }
  }
}
