import Foundation
import MeteringTestKit

/// Stands in for a browser: it keeps one cookie, and reads forms out of pages.
struct PageReader {
  let api: APISetup
  var cookie: String?

  /// Signs in with a token.
  init(_ api: APISetup, token: String = APISetup.adminToken) throws {
    self.api = api
    let answer = try PageReader(api: api).send("/sign-in", ["token": token])
    cookie = Self.cookie(answer)
  }

  init(api: APISetup, cookie: String? = nil) {
    self.api = api
    self.cookie = cookie
  }

  func get(_ path: String, headers: [String: String] = [:]) throws -> APISetup.Answer {
    try api.request("GET", path, token: nil, headers: withCookie(headers))
  }

  /// Sends a form, with no CSRF token except one in `fields`.
  func send(
    _ path: String, _ fields: [String: String], headers: [String: String] = [:]
  ) throws -> APISetup.Answer {
    let body = fields.sorted { $0.key < $1.key }.map { name, value in
      "\(Self.encode(name))=\(Self.encode(value))"
    }.joined(separator: "&")
    var all = withCookie(headers)
    all["Content-Type"] = "application/x-www-form-urlencoded"
    return try api.request("POST", path, token: nil, body: body, headers: all)
  }

  /// Sends a form as the page at `page` would, with its CSRF token.
  func submit(
    _ path: String, from page: String, _ fields: [String: String] = [:]
  ) throws -> APISetup.Answer {
    var all = fields
    all["csrf"] = try csrf(page)
    return try send(path, all)
  }

  func csrf(_ page: String) throws -> String {
    let html = try get(page).body
    let parts = html.components(separatedBy: "name=\"csrf\" value=\"")
    guard parts.count > 1 else { throw NeverHappened(description: "no form on \(page): \(html)") }
    return String(parts[1].prefix { $0 != "\"" })
  }

  static func cookie(_ answer: APISetup.Answer) -> String? {
    answer.headers["set-cookie"].map { String($0.prefix { $0 != ";" }) }
  }

  private func withCookie(_ headers: [String: String]) -> [String: String] {
    var headers = headers
    if let cookie { headers["Cookie"] = cookie }
    return headers
  }

  private static func encode(_ text: String) -> String {
    text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
  }
}
