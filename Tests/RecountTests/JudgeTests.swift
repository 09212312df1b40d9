import Metering
import Recount
import Testing

@Suite("What is a valid event")
struct JudgeTests {
  private let base = EventFixture()

  private func long(_ count: Int) -> String { "\"" + String(repeating: "a", count: count) + "\"" }

  @Test("The sample event is accepted with everything that it says")
  func takesTheSample() {
    let expected = UsageEvent(
      id: "e-1", source: "/validation/eu-1", subject: "lic_abc123", producer: "eu-1-7f3a",
      sequence: 4711, timeMilliseconds: sampleTime + 123, importBatch: nil, meter: "api_calls",
      quantity: 3, domain: "app.example.com", feature: "x")
    #expect(base.verdict() == .usage(expected))
  }

  @Test("Members may be escaped, in any order, and unknown ones hold whatever they like")
  func readsEscapedNamesInAnyOrder() {
    var shuffled = base
    shuffled.members.reverse()
    #expect(shuffled.verdict() == base.verdict())
    let escaped = base.without("id").adding(#"\u0069d"#, #""\u0065-1""#)
    #expect(escaped.verdict() == base.verdict())
    let more = base.adding("extra", #"{"a":["\ud800","\u0000",null]}"#).adding("ID", "7")
    #expect(more.verdict() == base.verdict())
  }

  @Test("If a name occurs twice, the last value counts as a whole")
  func lastMemberCounts() {
    #expect(base.adding("id", #""e-2""#).event()?.id == "e-2")
    #expect(base.adding("id", "7").reason() == "not_cloudevent")
    let twice = base.adding("data", #"{"feature":"y"}"#).event()
    #expect(twice?.quantity == 1)
    #expect(twice?.domain == nil)
    #expect(twice?.feature == "y")
    let inner = base.with("data", #"{"quantity":"no","quantity":5}"#)
    #expect(inner.event()?.quantity == 5)
    #expect(base.adding("producer", "null").event()?.producer == nil)
  }

  @Test("Checks 1 to 4: a tombstone, the size, JSON, an object")
  func checksTheRecord() {
    func reason(_ value: [UInt8]?) -> String? {
      judge(base.record(value: value), RecountSettings()).reason
    }
    #expect(reason(nil) == "tombstone")
    #expect(reason([]) == "not_json")
    #expect(reason(bytes("nope")) == "not_json")
    for text in ["[]", "1", "\"x\"", "null", "true"] {
      #expect(reason(bytes(text)) == "not_cloudevent")
    }
    let json = bytes(base.json)
    let padding = { [UInt8](repeating: 0x20, count: $0 - json.count) }
    #expect(reason(json + padding(65_536)) == nil)
    #expect(reason(json + padding(65_537)) == "over_size")
    #expect(reason([UInt8](repeating: 0xFF, count: 65_537)) == "over_size")
    #expect(reason([0xEF, 0xBB, 0xBF] + json) == "not_json")
  }

  @Test("Checks 5 and 6: specversion, id, source and type")
  func checksTheEnvelope() {
    for json in [#""1.1""#, #""1""#, #""""#, "1.0", "null", #""1.0\u0000""#] {
      #expect(base.with("specversion", json).reason() == "not_cloudevent", "\(json)")
    }
    #expect(base.with("specversion", #""\u0031.0""#).reason() == nil)
    #expect(base.without("specversion").reason() == "not_cloudevent")
    for name in ["id", "source", "type"] {
      for json in ["7", "null", "{}", "[]", "true", #""""#] {
        #expect(base.with(name, json).reason() == "not_cloudevent", "\(name) \(json)")
      }
      #expect(base.without(name).reason() == "not_cloudevent")
    }
    // Check 6 goes before 7, and 7 before 8.
    #expect(base.with("id", #""\u0000""#).without("source").reason() == "not_cloudevent")
    #expect(base.with("id", #""""#).with("source", #""\u0000""#).reason() == "nul_in_text")
  }

  @Test("Checks 7: each text is checked in turn, for NUL before a lone surrogate")
  func checksTheTexts() {
    for name in ["id", "source", "type"] {
      #expect(base.with(name, #""a\u0000""#).reason() == "nul_in_text")
      #expect(base.with(name, #""a\ud800""#).reason() == "bad_text")
      #expect(base.with(name, #""\ud800\u0000""#).reason() == "nul_in_text")
    }
    let both = base.with("id", #""\ud800""#).with("source", #""\u0000""#)
    #expect(both.reason() == "bad_text")
  }

  @Test("Check 9: id and source have at most 1,024 bytes")
  func checksTheLengths() {
    for name in ["id", "source"] {
      #expect(base.with(name, long(1024)).reason() == nil)
      #expect(base.with(name, long(1025)).reason() == "over_size")
    }
    // The bytes count after unescaping. Neither the characters nor the escapes' own length count.
    let escaped = String(repeating: #"\u0041"#, count: 1024)
    #expect(base.with("id", "\"\(escaped)\"").reason() == nil)
    let twoBytes = String(repeating: "é", count: 513)
    #expect(base.with("id", "\"\(twoBytes)\"").reason() == "over_size")
    #expect(base.with("type", long(2000)).reason() == "wrong_type")
  }

  @Test("Check 10: the type")
  func checksTheType() {
    for type in [
      "license.validation.performed", "license.usage.recorded ", "License.Usage.Recorded", "x",
    ] {
      #expect(base.with("type", "\"\(type)\"").reason() == "wrong_type")
    }
    // The type goes before the producer.
    #expect(base.with("type", #""x""#).with("producer", "7").reason() == "wrong_type")
  }

  @Test("Check 11: producer is optional, and is a text of 1 to 256 bytes")
  func checksTheProducer() {
    #expect(base.without("producer").event() != nil)
    #expect(base.with("producer", "null").event() != nil)
    #expect(base.with("producer", long(256)).reason() == nil)
    for json in [#""""#, "7", "{}", "false", long(257)] {
      #expect(base.with("producer", json).reason() == "bad_sequence", "\(json)")
    }
    #expect(base.with("producer", #""\u0000""#).reason() == "nul_in_text")
    #expect(base.with("producer", #""\udead""#).reason() == "bad_text")
    // Check 11 goes before 12.
    #expect(base.with("producer", "7").without("subject").reason() == "bad_sequence")
  }

  @Test("Checks 12 and 13: subject")
  func checksTheSubject() {
    for json in ["null", "7", #""""#, "[]"] {
      #expect(base.with("subject", json).reason() == "no_subject", "\(json)")
    }
    #expect(base.without("subject").reason() == "no_subject")
    #expect(base.with("subject", #""\u0000""#).reason() == "nul_in_text")
    #expect(base.with("subject", #""\ud800""#).reason() == "bad_text")
    let fits = String(repeating: "a", count: 512)
    #expect(base.with("subject", long(512)).keyed(fits).reason() == nil)
    #expect(base.with("subject", long(513)).keyed(fits + "a").reason() == "over_size")
  }

  @Test("Check 14: sequence is written as an integer from 0 to 2^63-1")
  func checksTheSequence() {
    let taken: [(String, Int64?)] = [
      ("0", 0), ("-0", 0), ("9223372036854775807", .max), ("null", nil), ("7", 7),
    ]
    for (json, sequence) in taken {
      let event = base.with("sequence", json).event()
      #expect(event != nil && event?.sequence == sequence, "\(json)")
    }
    for json in [
      "-1", "9223372036854775808", "18446744073709551616", "1.0", "1e2", "0e0", "-0.0", #""7""#,
      "true", "[]", "{}",
    ] {
      #expect(base.with("sequence", json).reason() == "bad_sequence", "\(json)")
    }
    #expect(base.with("sequence", "-1").with("time", "null").reason() == "bad_sequence")
  }

  @Test("Check 15: time is a string in the format of RFC 3339")
  func checksTheTime() {
    for json in ["null", "7", #""""#, #""now""#, #""2026-11-23T18:40:00Z\u0000""#, #""\ud800""#] {
      #expect(base.with("time", json).reason() == "bad_time", "\(json)")
    }
    #expect(base.without("time").reason() == "bad_time")
    let escaped = base.with("time", #""2026-11-23\u005418:40:00\u005A""#)
    #expect(escaped.event()?.timeMilliseconds == sampleTime)
  }

  @Test("Check 16: import is optional, and is a text of 1 to 256 bytes")
  func checksTheImport() {
    #expect(base.with("import", #""batch-1""#).event()?.importBatch == "batch-1")
    #expect(base.with("import", "null").event() != nil)
    #expect(base.with("import", long(256)).reason() == nil)
    for json in [#""""#, "7", long(257)] {
      #expect(base.with("import", json).reason() == "bad_data")
    }
    #expect(base.with("import", #""\u0000""#).reason() == "nul_in_text")
    #expect(base.with("import", #""\ud800""#).reason() == "bad_text")
  }

  @Test("Check 17: data is absent or an object")
  func checksTheData() {
    let event = base.without("data").event()
    #expect(event?.meter == "api_calls")
    #expect(event?.quantity == 1)
    #expect(base.with("data", "{}").event() == event)
    for json in ["null", "[]", "7", #""{}""#] {
      #expect(base.with("data", json).reason() == "bad_data")
    }
  }

  @Test("Check 18: a meter is a lower-case name of 1 to 64 characters")
  func checksTheMeter() {
    let longest = "a" + String(repeating: "_", count: 63)
    for meter in ["a", "api_calls", "z9", "a_", longest] {
      #expect(base.with("data", #"{"meter":"\#(meter)"}"#).event()?.meter == meter)
    }
    for json in [
      #""""#, #""A""#, #""1a""#, #""_a""#, #""a-b""#, #""a b""#, #""é""#, #""a\u0000""#,
      #""a\n""#, #""\ud800""#, "null", "7", "\"\(longest)a\"",
    ] {
      #expect(base.with("data", #"{"meter":\#(json)}"#).reason() == "bad_meter", "\(json)")
    }
  }

  @Test("Check 19: a quantity is an integer from 0 to the maximum")
  func checksTheQuantity() {
    for (json, quantity) in [("0", 0), ("-0", 0), ("1", 1), ("1000000000", 1_000_000_000)] {
      let event = base.with("data", #"{"quantity":\#(json)}"#).event()
      #expect(event?.quantity == Int64(quantity))
    }
    for json in [
      "-1", "1000000001", "1.0", "1e2", "null", #""1""#, "true", "99999999999999999999999999",
    ] {
      #expect(base.with("data", #"{"quantity":\#(json)}"#).reason() == "bad_quantity", "\(json)")
    }
    let settings = RecountSettings(maxQuantity: 2)
    #expect(base.reason(settings) == "bad_quantity")
    let wrong = #"{"quantity":-1,"meter":""}"#
    #expect(base.with("data", wrong).reason() == "bad_meter")
  }

  @Test("Check 20: domain and feature are texts; an empty one counts as absent, a long one is cut")
  func checksTheDimensions() {
    for name in ["domain", "feature"] {
      let with = { (json: String) in base.with("data", #"{"\#(name)":\#(json)}"#) }
      let value = { (event: UsageEvent?) in name == "domain" ? event?.domain : event?.feature }
      for json in ["null", #""""#] {
        let event = with(json).event()
        #expect(event != nil && value(event) == nil)
      }
      for json in ["7", "[]", "false"] {
        #expect(with(json).reason() == "bad_data")
      }
      #expect(with(#""\u0000""#).reason() == "nul_in_text")
      #expect(with(#""\ud800""#).reason() == "bad_text")
      let nulBehindTheCut = "\"" + String(repeating: "a", count: 300) + "\\u0000\""
      #expect(with(nulBehindTheCut).reason() == "nul_in_text")
      #expect(value(with(long(256)).event())?.utf8.count == 256)
      #expect(value(with(long(257)).event())?.utf8.count == 256)
      let wide = "\"a" + String(repeating: "😀", count: 64) + "\""
      #expect(value(with(wide).event())?.utf8.count == 253)
      // A character is a scalar, so the accent after the cut is lost and its letter is not.
      let accented = "\"" + String(repeating: "a", count: 256) + "\u{301}\""
      #expect(value(with(accented).event()) == String(repeating: "a", count: 256))
    }
    let both = #"{"domain":"\ud800","feature":"\u0000"}"#
    #expect(base.with("data", both).reason() == "bad_text")
  }

  @Test("Check 21: the key is the subject, byte for byte")
  func checksTheKey() {
    for key in [nil, "", "lic_abc12", "lic_abc1234", "LIC_ABC123"] {
      #expect(base.keyed(key).reason() == "key_mismatch")
    }
    // These are canonically equivalent and so equal as Swift strings, but their bytes differ.
    let composed = base.with("subject", "\"\u{E9}\"")
    #expect(composed.keyed("\u{E9}").reason() == nil)
    #expect(composed.keyed("e\u{301}").reason() == "key_mismatch")
    // Check 21 goes before 22.
    #expect(base.keyed(nil).at(0, timestamp: 0).reason() == "key_mismatch")
  }

  @Test("Check 22: a time is at most an hour ahead of the record")
  func checksTheFuture() {
    let time = sampleTime + 123
    #expect(base.at(0, timestamp: time - 3_600_000).reason() == nil)
    #expect(base.at(0, timestamp: time - 3_600_001).reason() == "too_far_ahead")
    #expect(base.at(0, timestamp: 0).reason() == "too_far_ahead")
    #expect(base.at(0, timestamp: -1).reason() == nil)
    #expect(base.at(0, timestamp: .min).reason() == nil)
    #expect(base.at(0, timestamp: .max).reason() == "too_old")
  }

  @Test("Check 22: a time is as old as the maximum age, or its registered import, allows")
  func checksTheAge() {
    let time = sampleTime + 123
    let age: Int64 = 35 * 86_400_000
    #expect(base.at(0, timestamp: time + age).reason() == nil)
    let old = base.at(0, timestamp: time + age + 1)
    #expect(old.reason() == "too_old")
    let imported = old.with("import", #""b""#)
    #expect(imported.reason() == "too_old")
    #expect(imported.reason(RecountSettings(importBatches: ["b": time])) == nil)
    #expect(imported.reason(RecountSettings(importBatches: ["b": time + 1])) == "too_old")
    #expect(imported.reason(RecountSettings(importBatches: ["c": 0])) == "too_old")
    #expect(old.reason(RecountSettings(importBatches: ["b": 0])) == "too_old")
    // An import does not extend how far an event may be in the future.
    let ahead = imported.at(0, timestamp: time - 3_600_001)
    #expect(ahead.reason(RecountSettings(importBatches: ["b": 0])) == "too_far_ahead")
    #expect(old.reason(RecountSettings(maxEventAgeMilliseconds: age + 1)) == nil)
  }

  @Test("A report is accepted with its numbers")
  func takesReports() {
    let report = ProducerReport(
      producer: "eu-1-7f3a", accepted: 10, pending: 2, dropped: 1, isFinal: true)
    #expect(EventFixture.report.verdict() == .report(report))
    let open = EventFixture.report.with(
      "data", #"{"accepted":-0,"pending":0,"dropped":9223372036854775807}"#)
    let second = ProducerReport(
      producer: "eu-1-7f3a", accepted: 0, pending: 0, dropped: .max, isFinal: false)
    #expect(open.verdict() == .report(second))
    // Members that a report does not use are ignored.
    #expect(EventFixture.report.with("sequence", "-1").with("time", "0").reason() == nil)
  }

  @Test("A report is checked for producer, data, numbers, final and key, in this order")
  func checksReports() {
    let report = EventFixture.report
    #expect(report.without("producer").without("data").reason() == "bad_sequence")
    #expect(report.with("producer", "null").reason() == "bad_sequence")
    #expect(report.without("data").keyed(nil).reason() == "bad_data")
    for json in [
      "null", "[]", "{}", #"{"accepted":1,"pending":1}"#,
      #"{"accepted":1,"pending":1,"dropped":-1}"#, #"{"accepted":1.0,"pending":1,"dropped":1}"#,
      #"{"accepted":null,"pending":1,"dropped":1}"#,
      #"{"accepted":1,"pending":"1","dropped":1}"#,
      #"{"accepted":1,"pending":1,"dropped":9223372036854775808}"#,
      #"{"accepted":1,"pending":1,"dropped":1,"final":null}"#,
      #"{"accepted":1,"pending":1,"dropped":1,"final":"true"}"#,
      #"{"accepted":1,"pending":1,"dropped":1,"final":1}"#,
    ] {
      #expect(report.with("data", json).reason() == "bad_data", "\(json)")
    }
    #expect(report.keyed(nil).reason() == "key_mismatch")
    #expect(report.keyed("lic_abc123").reason() == "key_mismatch")
  }

  @Test("A rejection names producer and sequence if both could be read, whatever else is wrong")
  func namesTheProducerOfRejections() {
    func named(_ fixture: EventFixture) -> Bool? {
      guard case .rejected(_, _, let producer, let sequence) = fixture.verdict() else { return nil }
      #expect((producer == nil) == (sequence == nil))
      return producer == bytes("eu-1-7f3a") && sequence == 4711
    }
    let wrongs = ["specversion": "1", "id": "1", "type": #""x""#, "subject": "1", "time": "1"]
    for (name, json) in wrongs {
      #expect(named(base.with(name, json)) == true, "\(name)")
    }
    #expect(named(base.with("id", "1").without("producer")) == false)
    #expect(named(base.with("id", "1").with("producer", "null")) == false)
    #expect(named(base.with("id", "1").with("producer", #""\u0000""#)) == false)
    #expect(named(base.with("id", "1").with("sequence", "1.0")) == false)
    #expect(named(base.with("id", "1").without("sequence")) == false)
    let array = judge(base.record(value: bytes("[\(base.json)]")), RecountSettings())
    guard case .rejected("not_cloudevent", _, nil, nil) = array else {
      Issue.record("\(array)")
      return
    }
  }

  @Test("A detail never repeats content of the event")
  func detailsHoldNoPayload() {
    for (name, _) in base.members {
      let wrong = base.with(name, #"["secret"]"#)
      guard case .rejected(_, let detail, _, _) = wrong.verdict() else {
        Issue.record("\(name)")
        continue
      }
      #expect(!detail.contains("secret"))
      #expect(!detail.isEmpty)
    }
  }

  @Test("No bytes cause a trap: an event with any bit flipped still gets a verdict")
  func survivesEveryFlippedByte() {
    let json = bytes(base.json)
    for index in json.indices {
      for bit in 0..<8 {
        var flipped = json
        flipped[index] ^= 1 << bit
        _ = judge(base.record(value: flipped), RecountSettings())
      }
    }
  }
}
