import Foundation
import Metering
import MeteringTestKit

/// Events that are mostly right. Every member is sometimes wrong, missing, repeated, escaped or out
/// of place.
struct RandomDocuments {
  var random: SeededRandom

  init(_ random: SeededRandom) { self.random = random }

  mutating func record() -> (key: [UInt8]?, value: [UInt8]) {
    let isReport = random.chance(15)
    var members = isReport ? Document.report.members : Document().members
    for index in members.indices where random.chance(12) {
      members[index].json = value(for: members[index].name)
    }
    for name in [
      "import", "producer", "traceparent", "datacontenttype", "data_base64", "Id", "\\u0069d",
    ]
    where random.chance(12) {
      members.append((name, value(for: name)))
    }
    if random.chance(20), let index = members.firstIndex(where: { $0.name == "data" }) {
      members[index] = ("data_base64", value(for: "data_base64"))
      if random.chance(60) { members.append(("datacontenttype", value(for: "datacontenttype"))) }
    }
    if random.chance(10) { members.remove(at: Int.random(in: 0..<members.count, using: &random)) }
    if random.chance(10) {
      let name = random.pick(members).name
      members.append((name, value(for: name)))
    }
    if random.chance(50) { members.shuffle(using: &random) }
    var text = space() + "{"
    for (index, member) in members.enumerated() {
      if index > 0 { text += "," }
      text += space() + "\"" + escaped(member.name) + "\"" + space() + ":" + space() + member.json
    }
    text += space() + "}" + space()
    let keys: [[UInt8]?] = [nil, [], bytes("lic_abc12"), bytes("lic_abc123 "), bytes("é")]
    let good = bytes(isReport ? "eu-1-7f3a" : "lic_abc123")
    return (random.chance(5) ? random.pick(keys) : good, bytes(text))
  }

  private mutating func space() -> String {
    random.chance(70) ? "" : random.pick([" ", "\n", "\t", "\r", " \r\n\t ", "        "])
  }

  /// The same name, sometimes spelled with escapes.
  mutating func escaped(_ name: String) -> String {
    guard !name.contains("\\"), random.chance(8) else { return name }
    return name.utf8.map { byte in
      random.chance(50)
        ? "\\u00" + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16, uppercase: true)
        : String(UnicodeScalar(byte))
    }.joined()
  }

  mutating func value(for name: String) -> String {
    if random.chance(20) { return json(depth: 2) }
    switch name {
    case "specversion": return random.pick([#""1.0""#, #""1.\u0030""#, #""1.1""#, "1.0", #""""#])
    case "type":
      return random.pick([
        #""license.usage.recorded""#, #""license\u002eusage.recorded""#,
        #""license.producer.reported""#, #""license.validation.performed""#, #""""#,
        #""license.usage.recordeD""#,
      ])
    case "subject":
      return random.pick([#""lic_abc123""#, #""lic_\u0061bc123""#, #""é""#, #""e\u0301""#, text()])
    case "time": return random.pick(Self.times)
    case "traceparent": return random.pick(Self.traceparents)
    case "sequence": return number()
    case "data": return data()
    case "data_base64": return base64()
    case "datacontenttype": return random.pick(Self.mediaTypes)
    default: return text()
    }
  }

  static let times = [
    #""2026-11-23T18:40:00Z""#, #""2026-11-23t18:40:00.9999z""#, #""2026-11-23T19:40:00.1+01:00""#,
    #""2026-11-23T18:40:00-00:00""#, #""2026-11-23T19:40:00Z""#, #""2026-11-23T19:40:00.001Z""#,
    #""2026-10-19T18:40:00Z""#, #""2026-10-19T18:39:59.999Z""#, #""2026-06-30T23:59:60Z""#,
    #""2026-11-23T23:59:60Z""#, #""2026-11-23 18:40:00Z""#, #""2026-02-29T00:00:00Z""#,
    #""2026-11-23T18:40:00""#, #""2026-11-23T18:40:0\u0030Z""#, #""0001-01-01T00:00:00+23:59""#,
    #""9999-12-31T23:59:59.999-23:59""#, #""2026-11-23T18:40:00.Z""#,
    #""2026-11-23T18:40:00Z\u0000""#,
    #""2026-11-23T24:00:00Z""#, "1795459200", #""""#,
  ]

  static let traceparents = [
    #""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
    #""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff""#,
    #""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-""#,
    #""00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01""#,
    #""00-00000000000000000000000000000000-00f067aa0ba902b7-01""#,
    #""00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01""#,
    #""01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-\u0000""#,
    #""01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-\ud800""#,
    #""01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-é""#,
    #""01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03x""#,
    #""ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
    #""0\u0030-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02""#, #""""#, "7", "null",
  ]

  static let mediaTypes = [
    #""application/json""#, #""APPLICATION\/JSON""#, #""text/json""#, #"" \tapplication/json ;x""#,
    #""application/cloudevents+json; charset=utf-8""#, #""application/xml""#, #""json""#,
    #""application/+json""#, #""application/jsonx""#, #""application/xjson""#, #""/json""#,
    #""application/ json""#, #""application/""#, #""application/json;\u0000""#, #""\ud800/json""#,
    #""applicatión/json""#, #""application/x+JSON""#, "\"\"", #"";application/json""#, "null", "7",
    #""a/b/json""#,
  ]

  private mutating func base64() -> String {
    let content = random.chance(10) ? json(depth: 2) : data()
    var text = Data((random.chance(80) ? content : space() + content + space()).utf8)
      .base64EncodedString()
    switch Int.random(in: 0..<12, using: &random) {
    case 0: while text.hasSuffix("=") { text.removeLast() }
    case 1: text += random.pick(["=", "==", "AAAA", "\\n", " ", "A", "\\u0000", "é"])
    case 2: text = text.replacingOccurrences(of: "+", with: "-")
    case 3:
      text = text.replacingOccurrences(of: "A", with: random.pick(["\\u0041", "=", "_", "B"]))
    default: break
    }
    // PHP writes it like this.
    if random.chance(50) { text = text.replacingOccurrences(of: "/", with: "\\/") }
    return "\"\(text)\""
  }

  private mutating func data() -> String {
    var members: [String] = []
    let names = [
      "meter", "quantity", "domain", "feature", "accepted", "pending", "dropped", "final",
    ]
    for name in names.shuffled(using: &random) where random.chance(60) {
      for _ in 0..<(random.chance(10) ? 2 : 1) {
        let value: String
        switch name {
        case "meter":
          value = random.pick([
            #""api_calls""#, #""m""#, #""a\u005f1""#, #""A""#, #""1a""#, #""""#, text(),
          ])
        case "domain", "feature": value = random.chance(30) ? longText() : text()
        case "final": value = random.pick(["true", "false", "null", "0"])
        default: value = number()
        }
        members.append("\"" + escaped(name) + "\":" + space() + value)
      }
    }
    return "{" + members.joined(separator: ",") + "}"
  }

  mutating func number() -> String {
    random.pick([
      "0", "-0", "1", "-1", "7", "1000000000", "1000000001", "9223372036854775807",
      "9223372036854775808", "18446744073709551615", "18446744073709551616", "1.0", "1e2", "1E+2",
      "-0.0", "123456789012345678901234567890", "-9223372036854775808", "0e0", "null",
    ])
  }

  mutating func text() -> String {
    let pieces = [
      "a", "B", "0", " ", "/", "\\/", "\\\"", "\\\\", "\\n", "\\t", "\\b", "\\f", "\\r", "\\u0041",
      "\\u00e9", "\\u20AC", "é", "€", "😀", "\\ud83d\\ude00", "\\uD83D\\uDE00", "\\u0001", "{", "]",
      ",", ":", "abcdefgh", "\u{7F}",
    ]
    let bad = [
      "\\u0000", "\\ud800", "\\udc00", "\\ud800\\ud800\\udc00", "\\ud83d\\u0041", "\\ud800\\u0000",
    ]
    let count = Int.random(in: 0...6, using: &random)
    return "\""
      + (0..<count).map { _ in random.chance(4) ? random.pick(bad) : random.pick(pieces) }.joined()
      + "\""
  }

  /// A text of around 256 bytes, the limit of a dimension, with characters of every length and
  /// spelling at the cut.
  private mutating func longText() -> String {
    let unit = random.pick(["a", "é", "€", "😀", "\\u20ac", "\\ud83d\\ude00"])
    let width = ["a": 1, "é": 2, "€": 3, "\\u20ac": 3][unit] ?? 4
    let lead = String(repeating: "x", count: Int.random(in: 0...4, using: &random))
    let count = (256 - lead.count) / width + Int.random(in: -1...2, using: &random)
    return "\"" + lead + String(repeating: unit, count: count) + "\""
  }

  mutating func json(depth: Int) -> String {
    switch Int.random(in: 0..<(depth == 0 ? 4 : 7), using: &random) {
    case 0: return random.pick(["true", "false", "null"])
    case 1, 2: return random.chance(50) ? number() : random.pick(["1.5e-3", "-2E2", "0.25"])
    case 3: return text()
    case 4, 5:
      let members = (0..<Int.random(in: 0...3, using: &random)).map { _ in
        text() + space() + ":" + json(depth: depth - 1)
      }
      return "{" + space() + members.joined(separator: ",") + "}"
    default:
      let elements = (0..<Int.random(in: 0...3, using: &random)).map { _ in json(depth: depth - 1) }
      return "[" + elements.joined(separator: "," + space()) + space() + "]"
    }
  }
}
