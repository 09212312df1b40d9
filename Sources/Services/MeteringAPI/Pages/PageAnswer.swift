import BillingPages
import HTTPTypes
import HummingbirdCore

/// Answers with HTML. Every page forbids what it does not need, such as foreign scripts and styles,
/// frames, and a `Referer` that leaves the site.
enum PageAnswer {
  static func html(
    _ page: Page, in context: PageContext, _ request: APIRequest, kind: PageSession.Kind,
    status: HTTPResponse.Status = .ok
  ) -> APIAnswer {
    var headers: HTTPFields = [.cacheControl: "no-store"]
    let ancestors =
      kind == .portal ? request.context.settings.portalFrameAncestors ?? "'none'" : "'none'"
    set(&headers, "Content-Security-Policy", policy(ancestors))
    set(&headers, "Referrer-Policy", "same-origin")
    set(&headers, "Cross-Origin-Opener-Policy", "same-origin")
    set(&headers, "Permissions-Policy", "camera=(), geolocation=(), microphone=()")
    if ancestors == "'none'" { set(&headers, "X-Frame-Options", "DENY") }
    set(&headers, "X-Robots-Tag", "noindex")
    return APIAnswer(
      status: status, type: "text/html; charset=utf-8", headers: headers,
      bytes: Array(page.html(in: context).utf8))
  }

  private static func policy(_ ancestors: String) -> String {
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
      + "base-uri 'none'; frame-ancestors \(ancestors)"
  }

  static func redirect(to address: String, cookie: String? = nil) -> APIAnswer {
    var headers: HTTPFields = [.location: address, .cacheControl: "no-store"]
    if let cookie { headers[.setCookie] = cookie }
    return APIAnswer(
      status: .seeOther, type: "text/plain; charset=utf-8", headers: headers, bytes: [])
  }

  static func set(_ headers: inout HTTPFields, _ name: String, _ value: String) {
    if let name = HTTPField.Name(name) { headers[name] = value }
  }
}
