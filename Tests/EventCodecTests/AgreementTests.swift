import EventCodec
import JSONText
import Metering
import MeteringTestKit
import Recount
import Testing

/// The decoder and the recount were written separately from docs/event-validation.md. Here they
/// must say the same about every byte string.
@Suite("Agreement of the decoder with the recount")
struct AgreementTests {
  static let settings = RecountSettings(
    importBatches: ["old-books": sampleTime - 400 * 86_400_000])

  /// Whole documents that together contain every construct.
  static let documents: [Document] = [
    Document(),
    Document.report,
    Document().of("é€😀").with("id", #""\u0065-\ud83d\ude00\n""#).with("import", #""old-books""#)
      .with("time", #""2026-01-01T00:00:00+01:00""#),
    Document().adding("extra", #"{"a":[1,-2.5e+3,true,false,null,{"b":{}},[]],"c\\":"\u00e9"}"#)
      .with("data", #" { "meter" : "a_1" , "x" : [ ] , "quantity" : -0 , "domain" : "\u20ac" } "#),
    Document().adding("data", #"{"quantity":5,"quantity":6}"#).adding("sequence", "null"),
    Document().with("traceparent", #""00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#),
    Document().with(
      "traceparent", #""cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-\u0030f-more""#),
    Document().encoded(#"{"quantity":41,"domain":"\u00e9","feature":"??>>"}"#)
      .with("datacontenttype", #""application/x+json;a=b""#),
  ]

  static let specialBytes: [UInt8] = [
    0x00, 0x09, 0x0A, 0x0B, 0x0D, 0x1F, 0x20, 0x22, 0x2C, 0x2D, 0x2E, 0x30, 0x39, 0x3A, 0x5B, 0x5C,
    0x5D, 0x65, 0x75, 0x7B, 0x7D, 0x7F, 0x80, 0xBF, 0xC0, 0xC3, 0xE2, 0xED, 0xF0, 0xF5, 0xFF,
  ]

  @Test("Every prefix of a document is judged alike", arguments: documents.indices)
  func prefixes(_ index: Int) {
    var harness = DecoderHarness(Self.settings)
    let document = Self.documents[index]
    let value = bytes(document.json)
    #expect(harness.outcome(document.record).reason == nil)
    for length in 0...value.count {
      #expect(harness.disagreement(document.record(Array(value[..<length]))) == nil)
    }
  }

  @Test(
    "Every byte, changed in each bit and to each special value, is judged alike",
    arguments: documents.indices)
  func changedBytes(_ index: Int) {
    var harness = DecoderHarness(Self.settings)
    let document = Self.documents[index]
    let value = bytes(document.json)
    for position in value.indices {
      var changed = value
      for replacement in (0..<8).map({ value[position] ^ (1 << $0) }) + Self.specialBytes {
        changed[position] = replacement
        #expect(harness.disagreement(document.record(changed)) == nil)
      }
    }
  }

  @Test(
    "A document with a byte inserted or removed anywhere is judged alike",
    arguments: documents.indices)
  func insertedAndDeletedBytes(_ index: Int) {
    var harness = DecoderHarness(Self.settings)
    let document = Self.documents[index]
    let value = bytes(document.json)
    for position in 0...value.count {
      for byte in Self.specialBytes {
        var longer = value
        longer.insert(byte, at: position)
        #expect(harness.disagreement(document.record(longer)) == nil)
      }
      for length in 1...3 where position + length <= value.count {
        var shorter = value
        shorter.removeSubrange(position..<position + length)
        #expect(harness.disagreement(document.record(shorter)) == nil)
      }
    }
  }

  @Test("Documents whose tokens changed places are judged alike")
  func swappedTokens() {
    var random = SeededRandom(of: "swappedTokens")
    var harness = DecoderHarness(Self.settings)
    for document in Self.documents {
      let tokens = Self.tokens(bytes(document.json))
      for _ in 0..<600 {
        var swapped = tokens
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          swapped.swapAt(
            Int.random(in: 0..<tokens.count, using: &random),
            Int.random(in: 0..<tokens.count, using: &random))
        }
        #expect(harness.disagreement(document.record(Array(swapped.joined()))) == nil)
      }
    }
  }

  /// Strings, runs of letters and digits, and single bytes.
  private static func tokens(_ value: [UInt8]) -> [[UInt8]] {
    var tokens: [[UInt8]] = []
    var isInString = false
    var isEscaped = false
    for byte in value {
      if isInString {
        tokens[tokens.count - 1].append(byte)
        if isEscaped {
          isEscaped = false
        } else if byte == 0x5C {
          isEscaped = true
        } else if byte == 0x22 {
          isInString = false
        }
      } else {
        tokens.append([byte])
        isInString = byte == 0x22
      }
    }
    return tokens
  }

  @Test("Random events, whole and damaged, are judged alike")
  func randomDocuments() {
    var documents = RandomDocuments(SeededRandom(of: "randomDocuments"))
    var harness = DecoderHarness(Self.settings)
    var reasons: [String: Int] = [:]
    for _ in 0..<25_000 {
      let (key, value) = documents.record()
      var document = Document().keyed(key)
      if documents.random.chance(5) { document.timestamp = documents.random.pick([-1, 0, .max]) }
      let record = document.record(value)
      #expect(harness.disagreement(record) == nil)
      reasons[harness.outcome(record).reason ?? "valid", default: 0] += 1
      var damaged = value
      for _ in 0..<Int.random(in: 1...2, using: &documents.random) where !damaged.isEmpty {
        let position = Int.random(in: 0..<damaged.count, using: &documents.random)
        switch Int.random(in: 0..<4, using: &documents.random) {
        case 0: damaged[position] = UInt8.random(in: 0...255, using: &documents.random)
        case 1: damaged.remove(at: position)
        case 2: damaged.insert(documents.random.pick(Self.specialBytes), at: position)
        default:
          damaged.swapAt(position, Int.random(in: 0..<damaged.count, using: &documents.random))
        }
      }
      #expect(harness.disagreement(document.record(damaged)) == nil)
      reasons[harness.outcome(document.record(damaged)).reason ?? "valid", default: 0] += 1
    }
    // The generator must reach every reason except those that need other records.
    let unreached = Set([
      "valid", "not_json", "not_cloudevent", "wrong_type", "bad_sequence", "no_subject",
      "nul_in_text", "bad_text", "bad_time", "bad_data", "bad_meter", "bad_quantity",
      "key_mismatch", "too_far_ahead", "too_old",
    ]).subtracting(reasons.keys)
    #expect(unreached.isEmpty, "\(reasons)")
    #expect(reasons["valid", default: 0] > 1_000, "\(reasons)")
  }

  @Test("Random bytes are judged alike and crash nothing")
  func randomBytes() {
    var random = SeededRandom(of: "randomBytes")
    var harness = DecoderHarness(Self.settings)
    let alphabet = bytes(#"{}[]":,\u00eEdD8-+.1tfn rals"#) + [0x0A, 0x80, 0xC3, 0xED, 0xF4]
    for _ in 0..<8_000 {
      let count = Int.random(in: 0...64, using: &random)
      let noise = random.bytes(count)
      #expect(harness.disagreement(Document().record(noise)) == nil)
      let grammatical = (0..<count).map { _ in random.pick(alphabet) }
      #expect(harness.disagreement(Document().record(grammatical)) == nil)
      let within = bytes(#"{"data":{"meter":""#) + grammatical + bytes(#""}}"#)
      #expect(harness.disagreement(Document().record(within)) == nil)
    }
  }

  @Test("Every pair of bytes in a string, and every lead with bytes at bounds, is judged alike")
  func malformedUTF8() {
    func check(_ content: [UInt8]) {
      let text = [0x22] + content + [0x22]
      let isRead = (try? JSONReader.parse(text)) != nil  // only whether it is read
      let copy = exactCopy(text)
      defer { copy.deallocate() }
      var scanner = JSONScanner(UnsafeRawBufferPointer(copy))
      let isScanned = scanner.string() != nil && scanner.atEnd()
      #expect(isScanned == isRead, "\(content)")
    }
    for first in UInt8.min...UInt8.max {
      check([first])
      for second in UInt8.min...UInt8.max where first >= 0x80 || first == 0x5C || second >= 0x80 {
        check([first, second])
      }
    }
    let bounds: [UInt8] = [
      0x22, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xFF,
    ]
    for lead in [0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5]
      as [UInt8]
    {
      for second in bounds {
        for third in bounds {
          check([lead, second, third])
          if lead >= 0xED { for fourth in bounds { check([lead, second, third, fourth]) } }
        }
      }
    }
  }
}
