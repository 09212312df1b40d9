import BillingPages
import Foundation
import HTTPTypes
import Logging
import Metering
import PostgresStore
import SystemRandom

/// From a request to a visit, and from what goes wrong to a page that says so.
struct PageHandling: Sendable {
  typealias Handler = @Sendable (PageVisit) async throws -> APIAnswer

  let router: Router
  let kind: PageSession.Kind

  /// A page to read.
  func get(_ path: String, _ handler: @escaping Handler) -> Route {
    Route(.get, prefixed(path), .own) { request in
      try await answer(request) { visit in try await handler(visit) }
    }
  }

  /// A form that changes something.
  func post(_ path: String, _ handler: @escaping Handler) -> Route {
    Route(.post, prefixed(path), .own) { request in
      try await answer(request) { visit in
        guard PageHandling.isFromHere(request), visit.session.accepts(csrf: visit.form["csrf"])
        else {
          throw Problem(
            .forbidden, "bad_form",
            "This form does not belong to your session. Go back, load the page again and repeat.")
        }
        return try await handler(visit)
      }
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
      let visit = PageVisit(
        request: request, session: session,
        client: PageClient(router: router, request: request, caller: session.caller),
        context: context, form: PageForm(fields: try PageHandling.fields(request)))
      return try await handler(visit)
    } catch {
      return PageHandling.problem(error, context, request, kind)
    }
  }

  /// Where nobody is signed in: a form for a token, or for customers how they get in.
  private func signIn(_ request: APIRequest, _ context: PageContext) -> APIAnswer {
    if kind == .portal {
      let page = ProblemPage.make(
        status: 401, title: "You are not signed in",
        detail: "Your session ended, or you came without a link. Ask for a new link where you got "
          + "this one.", in: context)
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
    let query = (try? request.query.all) ?? []  // A query that cannot be read filters nothing.
    let zone =
      query.first { $0.name == "time_zone" }.flatMap { Self.zone($0.value) } ?? DisplayZone.utc
    var path = request.route.path
    for (name, value) in request.parameters {
      path = path.replacing("{\(name)}", with: PercentEncoding.encode(value))
    }
    let host = PageVisit.host(request).map { "\(settings.scheme)://\($0)" }
    var context = PageContext(
      basePath: settings.basePath, path: path, query: query.filter { $0.name != "done" },
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

  /// A zone by its IANA name; nil where there is none of that name.
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

  /// Browsers say where a form comes from. What says nothing still needs the CSRF token.
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
    // Only a page to read can be asked for again.
    if isRetried, request.route.method == .get { shown.retrySeconds = 3 }
    let page = ProblemPage.make(
      status: status.code, title: title, detail: detail, isRetried: isRetried, in: shown)
    var answer = PageAnswer.html(page, in: shown, request, kind: kind, status: status)
    if status == .serviceUnavailable { answer.headers[.retryAfter] = "3" }
    return answer
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
      let title = problem.status == .notFound ? "Not found" : problem.status.reasonPhrase
      return (problem.status, title, detail, problem.status == .serviceUnavailable)
    case let unavailable as DatabaseUnavailable:
      let away =
        "The pages come back by themselves when PostgreSQL answers again. Nothing is lost: events "
        + "wait in the log."
      if case .busy = unavailable {
        return (
          .serviceUnavailable, "Too many people ask at the moment", "Try again in a moment.", true
        )
      }
      return (.serviceUnavailable, "The database does not answer", away, true)
    default:
      let problem = API.problem(error, request.id, request.context)
      if problem.status == .internalServerError {
        return (
          problem.status, "Something went wrong here",
          "The log has it under the request id \(request.id).", false
        )
      }
      return words(problem, request)
    }
  }
}
