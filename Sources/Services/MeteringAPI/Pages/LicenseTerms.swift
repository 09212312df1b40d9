import Administration
import Billing
import Foundation
import HTTPTypes
import JSONText
import Metering

/// Sends the forms of a license's terms to the API.
enum LicenseTerms {
  /// Registers the license of the form.
  static func create(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    let calls = try number(form["api_calls"], "api_calls")
    let terms = try Terms(form) { form[$0] }
    let made = try await visit.client.send(.post, "/v1/licenses", key: form.key) { json in
      for name in ["license_id", "customer_id", "plan"] {
        json.member(name, form[name] ?? "")
      }
      if terms.domains == nil {
        json.name("domains")
        json.texts([])
      }
      var limits = terms.limits
      if let calls { limits.append(("apiCalls", calls)) }
      terms.write(&json, limits: limits)
    }
    let id = PercentEncoding.encode(made["license_id"].text ?? "")
    return visit.redirect(to: "/licenses/" + id, done: "registered")
  }

  /// Changes only the terms that somebody changed in the form.
  static func change(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    let terms = try Terms(form) { form.changed($0) }
    _ = try await visit.client.send(.patch, "/v1/licenses/\(visit.segment())") { json in
      for name in ["customer_id", "plan"] {
        if let value = form.changed(name) { json.member(name, value) }
      }
      terms.write(&json, limits: terms.limits)
    }
    return visit.redirect(to: "/licenses/\(try visit.segment())", done: "changed")
  }

  /// The members that a new license and a change have in common. Members that are nil are not sent.
  private struct Terms: Sendable {
    var domains: [String]?
    var features: [String]?
    var expiresAt: String?
    var anchorDay: Int64?
    var isTrial: Bool?
    var limits: [(name: String, quantity: Int64?)] = []

    /// - Parameter value: returns the value of a field that is sent. It is empty if the field was
    ///   cleared.
    init(_ form: PageForm, _ value: (String) -> String?) throws(Problem) {
      domains = value("domains").map(LicenseTerms.words)
      features = value("features").map(LicenseTerms.words)
      expiresAt = try value("expires_at").map { text throws(Problem) in
        guard TimeText.read(text + "T00:00:00Z") != nil else {
          throw Problem.badParameter("expires_at", "Write the day as 2027-12-31.")
        }
        return text + "T00:00:00Z"
      }
      anchorDay = try LicenseTerms.number(value("billing_anchor_day"), "billing_anchor_day")
      isTrial = value("trial").map { $0 == "yes" }
      if let seats = value("seats") {
        limits.append(("seats", try LicenseTerms.number(seats, "seats")))
      }
    }

    func write(_ json: inout JSONWriter, limits: [(name: String, quantity: Int64?)]) {
      for (name, values) in [("domains", domains), ("features", features)] {
        guard let values else { continue }
        json.name(name)
        json.texts(values)
      }
      if let expiresAt { json.member("expires_at", expiresAt) }
      if let anchorDay {
        json.name("billing_anchor_day")
        json.integer(anchorDay)
      }
      if let isTrial {
        json.name("trial")
        json.boolean(isTrial)
      }
      guard !limits.isEmpty else { return }
      json.name("limits")
      json.beginObject()
      for limit in limits {
        json.name(limit.name)
        if let quantity = limit.quantity { json.integer(quantity) } else { json.null() }
      }
      json.endObject()
    }
  }

  /// Returns nil for an empty text.
  private static func number(_ text: String?, _ name: String) throws(Problem) -> Int64? {
    guard let text, !text.isEmpty else { return nil }
    guard let value = Int64(text), value >= 0 else {
      throw Problem.badParameter(name, "It must be a whole number, 0 or more.")
    }
    return value
  }

  /// Splits the text at ends of lines and at commas.
  private static func words(_ text: String) -> [String] {
    text.split { $0.isNewline || $0 == "," }
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
  }
}

extension JSONWriter {
  fileprivate mutating func texts(_ values: [String]) {
    beginArray()
    for value in values { text(value) }
    endArray()
  }
}
