import Foundation
import Metering

/// A usage event in a test's values, and its bytes.
package struct UsageEventText: Sendable {
  package var id: String
  package var subject: String
  package var source = "/test"
  package var milliseconds: Int64
  package var meter = "api_calls"
  package var quantity: Int64 = 1
  package var domain: String?
  package var feature: String?
  package var producer: String?
  package var sequence: Int64?
  package var importBatch: String?

  package init(id: String, subject: String, milliseconds: Int64 = UsageEventText.now) {
    self.id = id
    self.subject = subject
    self.milliseconds = milliseconds
  }

  /// The wall clock, which stamps records.
  package static var now: Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }

  /// The members that `changing` names are replaced by that raw JSON, or added. Those with nil are
  /// left out.
  package func json(changing changes: [String: String?] = [:]) -> String {
    var members: [(String, String)] = [
      ("specversion", #""1.0""#), ("id", Self.quoted(id)), ("source", Self.quoted(source)),
      ("type", #""license.usage.recorded""#), ("subject", Self.quoted(subject)),
      ("time", Self.quoted(Self.time(milliseconds: milliseconds))),
    ]
    if let producer { members.append(("producer", Self.quoted(producer))) }
    if let sequence { members.append(("sequence", String(sequence))) }
    if let importBatch { members.append(("import", Self.quoted(importBatch))) }
    var data = #""meter":"\#(meter)","quantity":\#(quantity)"#
    if let domain { data += #","domain":"# + Self.quoted(domain) }
    if let feature { data += #","feature":"# + Self.quoted(feature) }
    members.append(("data", "{\(data)}"))
    let texts = members.compactMap { name, value -> String? in
      guard let change = changes[name] else { return "\"\(name)\":\(value)" }
      return change.map { "\"\(name)\":\($0)" }
    }
    let added = changes.filter { change in !members.contains { $0.0 == change.key } }
      .sorted { $0.key < $1.key }.compactMap { name, value in value.map { "\"\(name)\":\($0)" } }
    return "{" + (texts + added).joined(separator: ",") + "}"
  }

  package static func report(
    producer: String, accepted: Int64, isFinal: Bool
  ) -> String {
    #"{"specversion":"1.0","id":"r\#(accepted)","source":"/test","type":"license.producer.reported","#
      + #""producer":"\#(producer)","data":{"accepted":\#(accepted),"pending":0,"dropped":0,"final":\#(isFinal)}}"#
  }

  /// The time in RFC 3339, UTC.
  package static func time(milliseconds: Int64) -> String {
    UTCTime.text(milliseconds)
  }

  private static func quoted(_ text: String) -> String {
    "\""
      + text.replacingOccurrences(of: "\\", with: "\\\\")
      .replacingOccurrences(of: "\"", with: "\\\"") + "\""
  }
}
