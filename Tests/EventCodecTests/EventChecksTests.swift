import EventCodec
import Foundation
import Metering
import Recount
import Testing

/// The rows of docs/event-validation.md, each at its bounds. The decoder gives the reason, and the
/// recount must give the same one.
@Suite("The checks of an event")
struct EventChecksTests {
  private func expect(
    _ cases: [(Document, String?)], _ settings: RecountSettings = RecountSettings(),
    at location: SourceLocation = #_sourceLocation
  ) {
    var harness = DecoderHarness(settings)
    for (index, (document, reason)) in cases.enumerated() {
      let found = harness.reason(document)
      #expect(found == reason, "case \(index)", sourceLocation: location)
    }
  }

  private func data(_ members: String) -> Document { Document().with("data", "{\(members)}") }
  private func repeated(_ unit: String, _ count: Int) -> String {
    String(repeating: unit, count: count)
  }
  private func quoted(_ text: String) -> String { "\"\(text)\"" }

  @Test("Every member of a valid event is passed on as it was written")
  func fields() throws {
    var harness = DecoderHarness()
    let outcome = harness.outcome(
      Document().of("é").with("id", #""\u0065\n""#).with("import", #""b""#).record)
    let usage = try #require(outcome.usage)
    #expect(outcome.text("id") == "e\n")
    #expect(outcome.text("source") == "/validation/eu-1")
    #expect(outcome.text("subject") == "é")
    #expect(outcome.text("producer") == "eu-1-7f3a")
    #expect(outcome.text("import") == "b")
    #expect(outcome.text("meter") == "api_calls")
    #expect(outcome.text("domain") == "app.example.com")
    #expect(outcome.text("feature") == "x")
    #expect(usage.sequence == 4_711)
    #expect(usage.quantity == 3)
    #expect(usage.time == sampleTime + 123)
  }

  @Test("An absent member has its default")
  func defaults() throws {
    var harness = DecoderHarness()
    let document = Document().without("data").without("producer")
    #expect(harness.reason(document) == nil)
    let usage = try #require(harness.outcome(document.record).usage)
    #expect(usage.quantity == 1)
    #expect(usage.sequence == nil, "a sequence without its producer means nothing")
    #expect(Set(usage.texts.keys) == ["id", "source", "subject", "meter"])
  }

  @Test("Texts of earlier events stay as they were until the decoder is reset")
  func textsLast() {
    var decoder = EventDecoder()
    let values = (0..<300).map { index in
      exactCopy(bytes(Document().with("id", #""\u0065-\#(index)""#).json))
    }
    let key = exactCopy(bytes("lic_abc123"))
    let events = values.map {
      decoder.decode(
        RecordBytes(
          value: UnsafeRawBufferPointer($0), key: UnsafeRawBufferPointer(key), timestamp: 0))
    }
    for (index, event) in events.enumerated() { #expect(event.id.string == "e-\(index)") }
    for value in values { value.deallocate() }
    key.deallocate()
  }

  @Test("A null value is a tombstone, and an empty one is not JSON")
  func tombstones() {
    var harness = DecoderHarness()
    for (value, reason) in [(nil, "tombstone"), ([], "not_json")] as [([UInt8]?, String)] {
      let record = Document().record(value)
      #expect(harness.disagreement(record) == nil)
      #expect(harness.outcome(record).reason == reason)
    }
  }

  @Test("A value has at most 65,536 bytes, whatever it is")
  func valueSize() {
    var harness = DecoderHarness()
    let json = Document().json
    for (size, reason) in [(65_535, nil), (65_536, nil), (65_537, "over_size")] as [(Int, String?)]
    {
      let padding = [UInt8](repeating: 0x20, count: size - json.utf8.count)
      for value in [bytes(json) + padding, padding + bytes(json)] {
        let record = Document().record(value)
        #expect(harness.disagreement(record) == nil)
        #expect(harness.outcome(record).reason == reason)
      }
      let ignored = Document().adding("x", quoted(repeated("é", (size - json.utf8.count - 8) / 2)))
      #expect(harness.disagreement(ignored) == nil)
      let name = Document().adding(repeated("\\u0061", (size - json.utf8.count - 8) / 6), "1")
      #expect(harness.disagreement(name) == nil)
      let noise = Document().record([UInt8](repeating: 0xFF, count: size))
      #expect(harness.disagreement(noise) == nil)
    }
  }

  @Test("Nesting may be 512 deep, in members that are read and in those that are not")
  func nesting() {
    var harness = DecoderHarness()
    for depth in 510...514 {
      for (open, close) in [("[", "]"), (#"{"a":"#, "}")] {
        func nested(_ levels: Int) -> String {
          let inner = open == "[" ? "" : "1"
          return repeated(open, levels) + inner + repeated(close, levels)
        }
        func expect(_ record: LogRecord, _ reason: String) {
          #expect(harness.disagreement(record) == nil)
          #expect(harness.outcome(record).reason == (depth > 512 ? "not_json" : reason))
        }
        expect(Document().record(bytes(nested(depth))), "not_cloudevent")
        // Within the envelope one level is open already, and within its data two are.
        expect(Document().with("id", nested(depth - 1)).record, "not_cloudevent")
        expect(data("\"quantity\":" + nested(depth - 2)).record, "bad_quantity")
        expect(data("\"meter\":" + nested(depth - 2)).record, "bad_meter")
        let unread = [
          Document().adding("x", nested(depth - 1)).record,
          data("\"x\":" + nested(depth - 2)).record,
          data("\"x\":{\"data\":" + nested(depth - 3) + "}").record,
        ]
        for record in unread {
          #expect(harness.disagreement(record) == nil)
          #expect(harness.outcome(record).reason == (depth > 512 ? "not_json" : nil))
        }
      }
    }
    // There are many containers, and none of them is deep.
    #expect(harness.reason(Document().adding("x", "[" + repeated("[{},[]],", 2_000) + "0]")) == nil)
  }

  @Test("White space is space, tab, line feed and carriage return, and nothing else")
  func whiteSpace() {
    var harness = DecoderHarness()
    let json = Document().json
    for byte in UInt8.min...UInt8.max {
      for value in [
        [byte] + bytes(json), bytes(json) + [byte],
        bytes(json.replacingOccurrence(of: ",", with: [byte])),
      ] {
        #expect(harness.disagreement(Document().record(value)) == nil)
      }
      let isSpace = [0x20, 0x09, 0x0A, 0x0D].contains(byte)
      let record = Document().record([byte] + bytes(json))
      #expect(harness.outcome(record).reason == (isSpace ? nil : "not_json"))
    }
    for other in ["\u{FEFF}", "\u{A0}", "\u{2028}", "\u{3000}"] {
      let record = Document().record(bytes(other + json))
      #expect(harness.outcome(record).reason == "not_json")
      #expect(harness.disagreement(record) == nil)
    }
  }

  @Test("The last of two members with one name counts, as a whole")
  func duplicateNames() throws {
    var harness = DecoderHarness()
    let twice = data(#""quantity":7,"domain":"a","meter":"m""#).adding("data", #"{"feature":"f"}"#)
    #expect(harness.reason(twice) == nil)
    let outcome = harness.outcome(twice.record)
    #expect(outcome.usage?.quantity == 1)
    #expect(outcome.text("meter") == "api_calls")
    #expect(outcome.text("domain") == nil)
    #expect(outcome.text("feature") == "f")
    expect([
      (Document().adding("data", "null"), "bad_data"),
      (Document().with("data", "null").adding("data", "{}"), nil),
      (Document().adding("subject", "null"), "no_subject"),
      (Document().adding(#"s\u0075bject"#, #""other""#), "key_mismatch"),
      (Document().with("id", "1").adding("id", #""x""#), nil),
      (Document().adding("sequence", "-1"), "bad_sequence"),
      (Document().adding("id\\u0000", "1").adding("\\ud800id", "1").adding("ID", "1"), nil),
      (data(#""quantity":-1,"quantity":2"#), nil),
      (data(#""quantity":2,"quant\u0069ty":-1"#), "bad_quantity"),
    ])
  }

  @Test(
    "A wrong type has its own reason for each member",
    arguments: ["null", "true", "false", "0", "1.5", "[]", "{}", #""""#])
  func wrongTypes(_ json: String) {
    let envelope = [
      "specversion", "id", "source", "type", "subject", "time", "producer", "sequence", "import",
      "data",
    ]
    var harness = DecoderHarness()
    for name in envelope {
      #expect(harness.disagreement(Document().with(name, json)) == nil)
      #expect(harness.disagreement(Document.report.with(name, json)) == nil)
      #expect(harness.disagreement(Document().without(name)) == nil)
      #expect(harness.disagreement(Document.report.without(name)) == nil)
    }
    for name in ["meter", "quantity", "domain", "feature"] {
      #expect(harness.disagreement(data("\"\(name)\":\(json)")) == nil)
    }
    for name in ["accepted", "pending", "dropped", "final"] {
      var members = ["accepted": "1", "pending": "2", "dropped": "3", "final": "false"]
      members[name] = json
      let text = members.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",")
      #expect(harness.disagreement(Document.report.with("data", "{\(text)}")) == nil)
      members[name] = nil
      let rest = members.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",")
      #expect(harness.disagreement(Document.report.with("data", "{\(rest)}")) == nil)
    }
  }

  @Test("The reason that is given is the first one that the page lists")
  func order() {
    expect([
      (Document().with("id", #""\u0000\ud800""#).with("source", "1"), "not_cloudevent"),
      (Document().with("id", #""\ud800\u0000""#), "nul_in_text"),
      (Document().with("id", #""\ud800""#).with("source", #""\u0000""#), "bad_text"),
      (Document().with("id", #""""#).with("type", #""\u0000""#), "nul_in_text"),
      (Document().with("id", quoted(repeated("x", 1_025))).with("type", #""""#), "not_cloudevent"),
      (Document().with("id", quoted(repeated("x", 1_025))).with("type", #""t""#), "over_size"),
      (Document().with("type", #""t""#).with("producer", "1"), "wrong_type"),
      (Document().with("producer", "1").without("subject"), "bad_sequence"),
      (Document().with("subject", #""""#).with("sequence", "-1"), "no_subject"),
      (Document().with("sequence", "-1").with("time", "1"), "bad_sequence"),
      (Document().with("time", "1").with("import", "1"), "bad_time"),
      (Document().with("import", #""\u0000""#).with("data", "1"), "nul_in_text"),
      (data(#""meter":1,"quantity":-1"#), "bad_meter"),
      (data(#""quantity":-1,"domain":1"#), "bad_quantity"),
      (data(#""domain":1,"feature":"\u0000""#), "bad_data"),
      (data(#""domain":"\ud800","feature":"\u0000""#), "bad_text"),
      (data(#""feature":1"#).keyed(nil), "bad_data"),
      (Document().keyed(nil).stamped(0), "key_mismatch"),
    ])
  }

  @Test(
    "Lengths are counted in bytes after unescaping",
    arguments: ["x", "é", "€", "😀", "\\u20ac", "\\ud83d\\ude00"])
  func lengths(_ unit: String) {
    let width = ["x": 1, "é": 2, "€": 3, "\\u20ac": 3][unit] ?? 4
    /// A text of that many bytes whose last character is the unit.
    func text(_ length: Int) -> String {
      repeated("x", length % width) + repeated(unit, length / width)
    }
    let bounds = [
      ("id", 1_024, "over_size"), ("source", 1_024, "over_size"), ("producer", 256, "bad_sequence"),
      ("import", 256, "bad_data"),
    ]
    for (name, bound, reason) in bounds {
      expect([
        (Document().with(name, quoted(text(bound - 1))), nil),
        (Document().with(name, quoted(text(bound))), nil),
        (Document().with(name, quoted(text(bound + 1))), reason),
      ])
    }
    let plain = unit == "\\u20ac" ? "€" : unit == "\\ud83d\\ude00" ? "😀" : unit
    for (length, reason) in [(511, nil), (512, nil), (513, "over_size")] as [(Int, String?)] {
      let key = repeated("x", length % width) + repeated(plain, length / width)
      expect([(Document().with("subject", quoted(text(length))).keyed(bytes(key)), reason)])
    }
  }

  @Test("A long dimension is cut at the last whole character within 256 bytes")
  func dimensions() {
    var harness = DecoderHarness()
    for unit in ["a", "é", "€", "😀"] {
      for lead in 0...4 {
        let text = repeated("x", lead) + repeated(unit, 300 / unit.utf8.count)
        for name in ["domain", "feature"] {
          let document = data("\"\(name)\":\"\(text)\"")
          #expect(harness.reason(document) == nil)
          let value = harness.outcome(document.record).text(name) ?? ""
          #expect(bytes(text).starts(with: bytes(value)))
          #expect(value.utf8.count == lead + (256 - lead) / unit.utf8.count * unit.utf8.count)
        }
      }
    }
    for length in 254...258 {
      let document = data("\"domain\":\"\(repeated("y", length))\"")
      #expect(harness.reason(document) == nil)
      #expect(harness.outcome(document.record).text("domain")?.utf8.count == min(length, 256))
    }
    let empty = data(#""domain":"","feature":null"#)
    #expect(harness.reason(empty) == nil)
    #expect(harness.outcome(empty.record).text("domain") == nil)
  }

  @Test("Meters are [a-z][a-z0-9_]{0,63}")
  func meters() {
    for byte in UInt8(0x20)..<0x7F where byte != 0x22 && byte != 0x5C {
      let character = String(UnicodeScalar(byte))
      let isLetter = (0x61...0x7A).contains(byte)
      let isRest = isLetter || (0x30...0x39).contains(byte) || byte == 0x5F
      expect([
        (data("\"meter\":\"\(character)\""), isLetter ? nil : "bad_meter"),
        (data("\"meter\":\"a\(character)b\""), isRest ? nil : "bad_meter"),
      ])
    }
    expect([
      (data("\"meter\":\"\(repeated("m", 64))\""), nil),
      (data("\"meter\":\"\(repeated("m", 65))\""), "bad_meter"),
      (data(#""meter":"\u0061""#), nil), (data(#""meter":"a\u0000""#), "bad_meter"),
      (data(#""meter":"a\ud800""#), "bad_meter"), (data(#""meter":"é""#), "bad_meter"),
    ])
  }

  @Test("Numbers are integers as written, within their bounds")
  func integers() {
    let cases: [(String, isSequence: Bool, isQuantity: Bool)] = [
      ("0", true, true), ("-0", true, true), ("1", true, true), ("-1", false, false),
      ("1.0", false, false), ("1e2", false, false), ("0e0", false, false), ("-0.0", false, false),
      ("1000000000", true, true), ("1000000001", true, false),
      ("9223372036854775807", true, false), ("9223372036854775808", false, false),
      ("18446744073709551616", false, false), ("18446744073709551617", false, false),
      ("184467440737095516160", false, false), (repeated("9", 5_000), false, false),
      ("-9223372036854775808", false, false), ("-18446744073709551616", false, false),
    ]
    for (number, isSequence, isQuantity) in cases {
      expect([
        (Document().with("sequence", number), isSequence ? nil : "bad_sequence"),
        (data("\"quantity\":\(number)"), isQuantity ? nil : "bad_quantity"),
        (
          Document.report.with("data", "{\"accepted\":\(number),\"pending\":0,\"dropped\":0}"),
          isSequence ? nil : "bad_data"
        ),
      ])
    }
    expect(
      [(data("\"quantity\":5"), nil), (data("\"quantity\":6"), "bad_quantity")],
      RecountSettings(maxQuantity: 5))
    expect(
      [(data("\"quantity\":9223372036854775807"), nil)], RecountSettings(maxQuantity: .max))
    for wrong in ["01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "NaN", "Infinity", "--1", "1_0"]
    {
      expect([(Document().with("sequence", wrong), "not_json")])
    }
  }

  @Test("The key is the subject, byte for byte, and a report's key is its producer")
  func keys() {
    expect([
      (Document().keyed(nil), "key_mismatch"), (Document().keyed([]), "key_mismatch"),
      (Document().keyed(bytes("lic_abc12")), "key_mismatch"),
      (Document().keyed(bytes("lic_abc1234")), "key_mismatch"),
      (Document().keyed(bytes("lic_abc124")), "key_mismatch"),
      (Document().of("é").keyed(bytes("e\u{301}")), "key_mismatch"),
      (Document().of("é"), nil), (Document.report, nil),
      (Document.report.keyed(bytes("lic_abc123")), "key_mismatch"),
      (Document.report.keyed(nil), "key_mismatch"),
      (Document.report.without("producer"), "bad_sequence"),
    ])
  }

  @Test("A time is at most an hour ahead and METER_MAX_EVENT_AGE old, unless its import is older")
  func timeBounds() {
    let age = Limits.eventAgeMilliseconds
    let time = sampleTime + 123
    let settings = RecountSettings(importBatches: ["b": time, "c": time + 1])
    let old = Document().stamped(time + age + 1)
    expect(
      [
        (Document().stamped(time - 3_600_000), nil),
        (Document().stamped(time - 3_600_001), "too_far_ahead"),
        (Document().stamped(time + age), nil), (old, "too_old"),
        (old.with("import", #""b""#), nil), (old.with("import", #""c""#), "too_old"),
        (old.with("import", #""d""#), "too_old"), (Document().stamped(-1), nil),
        (Document().stamped(.min), nil), (Document().stamped(0), "too_far_ahead"),
        (
          Document().stamped(time - 3_600_001).with("import", #""b""#), "too_far_ahead"
        ),
      ], settings)
  }

  @Test("A record's timestamp near the end of 64 bits is judged and traps nothing")
  func hostileTimestamps() {
    expect([
      (Document().stamped(.max), "too_old"), (Document().stamped(.max - 3_600_000), "too_old"),
      (Document().with("time", #""0001-01-01T00:00:00Z""#).stamped(.max), "too_old"),
      (Document().with("time", #""9999-12-31T23:59:59Z""#).stamped(.min), nil),
    ])
  }

  @Test("Data in base64 counts as what it holds, whatever the media type's spelling")
  func dataInBase64() throws {
    var harness = DecoderHarness()
    let data = #"{"meter":"exports","quantity":41,"domain":"\u00e9??>>.example","feature":""}"#
    let plain = Document().encoded(data)
    let types = [
      #""application/json""#, #""Application\/JSON; charset=utf-8""#, #""text/x+json""#, "null",
    ]
    // The plain one comes several times, so that the shape which the first one left is met too.
    for document in [plain, plain, plain] + types.map({ plain.with("datacontenttype", $0) }) {
      #expect(harness.reason(document) == nil)
      let outcome = harness.outcome(document.record)
      let usage = try #require(outcome.usage)
      #expect(usage.quantity == 41)
      #expect(outcome.text("meter") == "exports")
      #expect(outcome.text("domain") == "é??>>.example")
      #expect(outcome.text("feature") == nil)
    }
    // PHP escapes the slash, and any letter may be escaped.
    let escaped = plain.json.replacing("/", with: "\\/").replacing("ey", with: "\\u0065y")
    #expect(harness.disagreement(plain.record(bytes(escaped))) == nil)
    #expect(harness.outcome(plain.record(bytes(escaped))).usage?.quantity == 41)
    #expect(harness.reason(Document().with("data_base64", "null")) == nil)
    #expect(harness.reason(Document().with("datacontenttype", #""application/xml""#)) == nil)
    #expect(harness.reason(Document().encoded("{}")) == nil)
    var report = Document.report.encoded(#"{"accepted":10,"pending":2,"dropped":1}"#)
    #expect(harness.reason(report) == nil)
    report = report.adding("data", #"{"accepted":10,"pending":2,"dropped":1}"#)
    #expect(harness.reason(report) == "bad_data")
  }

  @Test("Repeated data, or data that is not a JSON object, makes a dead letter")
  func badBinaryData() {
    let valid = Document().encoded(#"{"quantity":41}"#)
    let encoded = Data(#"{"quantity":41}"#.utf8).base64EncodedString()
    func base64(_ text: String) -> (Document, String?) {
      (Document().without("data").with("data_base64", quoted(text)), "bad_data")
    }
    expect(
      [
        (Document().with("data_base64", quoted(encoded)), "bad_data"),
        (valid.with("data", "null"), "bad_data"), (valid.with("data_base64", "7"), "bad_data"),
        (valid.with("data_base64", "{}"), "bad_data"),
        (valid.with("data_base64", #""\u0000""#), "nul_in_text"),
        (valid.with("data_base64", #""\ud800""#), "bad_text"),
        (valid.with("datacontenttype", #""a/json\u0000""#), "nul_in_text"),
        (valid.with("datacontenttype", #""a/json\udc00""#), "bad_text"),
      ])
    expect(
      [
        "application/octet-stream", "", "json", "a/json/b", "application/json5", "a b/json",
        "/json",
      ]
      .map { (valid.with("datacontenttype", quoted($0)), "bad_data") }
        + [(valid.with("datacontenttype", "[]"), "bad_data")])
    // The values lack padding, have too much of it, contain blanks, use the alphabet for URLs, or
    // have unused bits.
    expect(
      [
        "", "=", "====", "e30", "e30==", "e30=e30=", "e30 =", " e30=", "e30=\\n", "e3-_", "e31=",
        "e30=\\r\\n", "é30=", "W10=", "MQ==", "bnVsbA==", "e30gfQ==", "7w==", "/w==",
      ].map(base64))
  }

  @Test("Data in base64 may be as nested and as large as its record allows, and no more")
  func deepBinaryData() {
    func nested(_ depth: Int) -> String {
      #"{"x":"# + repeated("[", depth - 1) + repeated("]", depth - 1) + "}"
    }
    let within = #"{"quantity":2,"domain":"a\u0000"}"#
    let twice = #"{"quantity":"no","quantity":2,"data":{"quantity":9},"data_base64":"x"}"#
    expect([
      (Document().encoded(nested(512)), nil), (Document().encoded(nested(513)), "bad_data"),
      (Document().encoded(nested(20_000)), "bad_data"),
      (Document().encoded(#"{"x":""# + repeated("y", 48_000) + #""}"#), nil),
      (Document().encoded(within), "nul_in_text"), (Document().encoded(twice), nil),
      (Document().encoded(#"{"quantity":1.0}"#), "bad_quantity"),
      (Document().encoded(#"{"meter":"A"}"#), "bad_meter"),
    ])
  }

  @Test("The ledger has the producer and sequence of a dead letter if both could be read")
  func ledgerKeys() {
    var harness = DecoderHarness()
    let broken: [(Document, Bool)] = [
      (Document().without("id"), true), (Document().with("type", #""x""#), true),
      (Document().keyed(nil), true), (Document().with("producer", #""\u0070""#).keyed(nil), true),
      (Document.report.with("sequence", "5").keyed(nil), true),
      (Document().stamped(0), true), (Document().with("sequence", "-1"), false),
      (Document().with("producer", #""\u0000""#), false), (Document().with("producer", "1"), false),
      (Document().without("producer").keyed(nil), false),
      (Document().with("sequence", "null").keyed(nil), false),
      (Document().with("sequence", "1.0").without("id"), false),
      (Document().with("producer", quoted(repeated("p", 257))).without("id"), false),
    ]
    for (document, isKnown) in broken {
      #expect(harness.disagreement(document) == nil)
      guard case .rejected(_, let producer, let sequence) = harness.outcome(document.record) else {
        Issue.record("not rejected: \(document.json)")
        continue
      }
      #expect((producer != nil) == isKnown)
      #expect((sequence != nil) == isKnown)
    }
  }
}

extension String {
  /// Replaces only the first occurrence, by a byte that need not be text. Bytes above ASCII become
  /// two bytes.
  fileprivate func replacingOccurrence(of character: Character, with byte: [UInt8]) -> String {
    guard let index = firstIndex(of: character) else { return self }
    let inserted = byte.map { String(UnicodeScalar($0)) }.joined()
    return self[...index] + inserted + self[self.index(after: index)...]
  }
}
