import BillingPages
import Foundation
import HTTPTypes
import HummingbirdCore
import Metering

/// One request for a page by somebody who is signed in.
struct PageVisit: Sendable {
  let request: APIRequest
  let session: PageSession
  let client: PageClient
  var context: PageContext
  /// The fields of a form. A GET has none.
  let form: PageForm

  var caller: Caller { session.caller }

  func parameter(_ name: String = "id") throws(Problem) -> String {
    try request.parameter(name).string
  }

  /// The parameter as one segment of an API path.
  func segment(_ name: String = "id") throws(Problem) -> String {
    PercentEncoding.encode(try parameter(name))
  }

  /// The parameters of the address with these names that are not empty.
  func filters(_ names: String...) -> [PageClient.Parameter] { context.filters(names) }

  /// The filters of a list with its cursor.
  func list(_ filters: [PageClient.Parameter], limit: Int = 50) -> [PageClient.Parameter] {
    filters + [("limit", String(limit))] + self.filters("cursor")
  }

  // MARK: Answers

  func html(_ page: Page, status: HTTPResponse.Status = .ok) -> APIAnswer {
    PageAnswer.html(page, in: context, request, kind: session.kind, status: status)
  }

  /// Redirects to a page that shows a change, so that a reload does not repeat the change.
  func redirect(
    to path: String, done: String? = nil, _ filters: [PageContext.Parameter] = []
  ) -> APIAnswer {
    var parameters = filters + (done.map { [("done", $0)] } ?? [])
    if !context.zone.isUTC { parameters.append(("time_zone", context.zone.name)) }
    return PageAnswer.redirect(to: context.url(path, parameters))
  }

  /// The result of the change before this page.
  var notice: Notice? {
    guard let done = context.done, let text = Self.notices[done] else { return nil }
    return Notice(done == "closed-none" ? .warning : .good, text)
  }

  private static let notices = [
    "suspended": "The license is suspended. Its validations are refused within a second.",
    "resumed": "The license is active again.",
    "canceled": "The license is canceled.",
    "registered": "The license is registered. It can be validated within a second.",
    "changed": "The change is saved.",
    "added": "The customer is added. Register a license for it, or import many.",
    "limits": "The limits are saved. The usage so far is compared with them.",
    "closed": "The periods are closed.",
    "closed-none": "There was nothing left to close.",
    "adjusted": "The correction is recorded.",
    "reversed": "The counter-entry is recorded.",
    "tested": "A test webhook was sent. It is the first of the deliveries below.",
    "enabled": "The endpoint is enabled. To send what it missed, use \"Send again\".",
    "recovered": "The deliveries from this time are being sent again.",
    "recovered-part":
      "The oldest 50,000 deliveries of this time are being sent again. Repeat it for the rest.",
    "deleted": "The endpoint is deleted.",
    "redelivered": "The delivery is being sent again.",
    "requeued": "The record was sent to the log again. It will count once.",
    "revoked": "The access is revoked.",
  ]

  /// The name and port by which the client reached us, if they can stand in a link.
  static func host(_ request: APIRequest) -> String? {
    guard let host = request.authority, (1...260).contains(host.utf8.count),
      host.utf8.allSatisfy({ byte in
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
          || ".-:[]".utf8.contains(byte)
      })
    else { return nil }
    return host
  }
}

/// The fields of a form that was sent.
struct PageForm: Sendable {
  let fields: [(name: String, value: String)]

  /// The value without blanks around it, or nil if it is empty.
  subscript(_ name: String) -> String? {
    guard let value = fields.first(where: { $0.name == name })?.value else { return nil }
    let trimmed = value.trimmingCharacters(in: .whitespacesAndNewlines)
    return trimmed.isEmpty ? nil : trimmed
  }

  /// The value if it differs from the one that the form was shown with, and nil otherwise. A value
  /// that was cleared is empty.
  func changed(_ name: String) -> String? {
    /// Browsers end lines with CR and LF, so the CR is ignored.
    func bytes(_ text: String) -> [UInt8] { text.utf8.filter { $0 != UInt8(ascii: "\r") } }
    let value = self[name] ?? ""
    guard fields.contains(where: { $0.name == name }),
      bytes(value) != bytes(self["was." + name] ?? "")
    else { return nil }
    return value
  }

  func all(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

  /// Identifies one showing of a form, so that a form that is sent twice has its effect once.
  var key: String? { self["once"].map { "page-" + $0.prefix(200) } }
}
