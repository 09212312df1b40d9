import BillingPages
import HTTPTypes
import Metering
import PostgresStore
import SystemRandom

/// Signing in with a token, and out.
enum SignInPages {
  static let routes: [Route] = [
    Route(.get, "/sign-in", .own) { request in
      try form(request, problem: nil)
    },
    Route(.post, "/sign-in", .own) { request in
      let context = try PageHandling.context(request, nil)
      do {
        return try await signIn(request)
      } catch {
        return PageHandling.problem(error, context, request, .vendor)
      }
    },
    Route(.post, "/sign-out", .own) { try await signOut($0, .vendor) },
    Route(.post, "/portal/sign-out", .own) { try await signOut($0, .portal) },
  ]

  private static func form(
    _ request: APIRequest, problem: String?, status: HTTPResponse.Status = .ok
  ) throws -> APIAnswer {
    let context = try PageHandling.context(request, nil)
    let sent = PageForm(fields: try PageHandling.fields(request))
    let next = sent["next"] ?? context.value("next") ?? ""
    return PageAnswer.html(
      SignInPage.make(next: next, problem: problem, in: context), in: context, request,
      kind: .vendor, status: status)
  }

  private static func signIn(_ request: APIRequest) async throws -> APIAnswer {
    guard PageHandling.isFromHere(request) else {
      throw Problem(.forbidden, "bad_form", "This form came from another site.")
    }
    let form = PageForm(fields: try PageHandling.fields(request))
    guard let token = form["token"], token.utf8.count <= 512 else {
      return try Self.form(request, problem: "Enter a token.", status: .badRequest)
    }
    let secrets = PageSession.Secrets()
    guard try await begin(secrets, tokenHash: PageSession.hash(token), request) else {
      return try Self.form(
        request, problem: "This token is unknown, revoked or expired.",
        status: .unauthorized)
    }
    return PageAnswer.redirect(
      to: target(form["next"], request),
      cookie: PageSession.setCookie(secrets.cookie, .vendor, request))
  }

  /// Begins a session, or returns false if the token is not valid.
  private static func begin(
    _ secrets: PageSession.Secrets, tokenHash: String, _ request: APIRequest
  ) async throws -> Bool {
    let database = request.context.database
    // Strangers who guess take no place among the writes.
    let isValid = try await database.access {
      try !AccessStore($0).validTokens(hashes: [tokenHash]).isEmpty
    }
    guard isValid else { return false }
    let id = "pgs_" + SystemRandom.hexadecimal(bytes: 9)
    return try await database.write { connection in
      let store = SessionStore(connection)
      let session = try store.signIn(
        id: id, tokenHash: tokenHash, cookieHash: secrets.cookieHash,
        csrfSecret: secrets.csrf, lifetimeSeconds: PageSession.lifetimeSeconds)
      guard let session else { return false }
      try AuditStore(connection).record(
        AuditedChange(
          "session.sign_in", "page_session", session.id,
          customerID: session.token.customerID?.string,
          after: #"{"token_id":"\#(session.token.tokenID)"}"#),
        by: audit(request, .pageSession, session.id))
      return true
    }
  }

  /// Accepts only our own paths, because a link to our form must not lead to a foreign page.
  private static func target(_ next: String?, _ request: APIRequest) -> String {
    let base = request.context.settings.basePath
    guard let next, next.hasPrefix(base + "/"), !next.hasPrefix(base + "//"),
      next.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }),
      next.utf8.count <= 4_000
    else { return base + "/" }
    return next
  }

  private static func signOut(
    _ request: APIRequest, _ kind: PageSession.Kind
  ) async throws -> APIAnswer {
    let context = try PageHandling.context(request, nil)
    do {
      let form = PageForm(fields: try PageHandling.fields(request))
      let session = try await PageSession.find(kind, request)
      if let session {
        guard PageHandling.isFromHere(request), session.accepts(csrf: form["csrf"]) else {
          throw Problem(.forbidden, "bad_form", "This form does not belong to your session.")
        }
      }
      // A cookie without a session needs no write.
      if session != nil, let cookie = PageSession.cookie(kind.cookieName, request.headers) {
        let hash = PageSession.hash(cookie)
        try await request.context.database.write { connection in
          let store = SessionStore(connection)
          if kind == .vendor {
            try store.endPageSession(cookieHash: hash)
          } else {
            try store.endPortalSession(cookieHash: hash)
          }
        }
      }
      let path = kind == .vendor ? "/sign-in" : "/portal"
      return PageAnswer.redirect(
        to: session?.returnURL ?? context.basePath + path,
        cookie: PageSession.setCookie(nil, kind, request))
    } catch {
      return PageHandling.problem(error, context, request, kind)
    }
  }

  static func audit(
    _ request: APIRequest, _ kind: AuditContext.ActorKind, _ id: String
  ) -> AuditContext {
    AuditContext(
      actorKind: kind, actorID: id, requestID: request.id, address: request.address,
      userAgent: request.userAgent)
  }
}
