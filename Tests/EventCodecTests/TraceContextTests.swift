import EventCodec
import Metering
import MeteringTestKit
import Recount
import Testing

/// Tests W3C Trace Context, section 3.2, and where events carry it.
@Suite struct TraceContextTests {
  static let id = "4bf92f3577b34da6a3ce929d0e0e4736"
  static let span = "00f067aa0ba902b7"

  @Test(
    arguments: [
      ("00-\(id)-\(span)-01", "00-\(id)-\(span)-01"),
      ("00-\(id)-\(span)-00", "00-\(id)-\(span)-00"),
      // Unknown flags are written as 0.
      ("00-\(id)-\(span)-ff", "00-\(id)-\(span)-03"),
      // A later version is read as far as it is known.
      ("01-\(id)-\(span)-03", "00-\(id)-\(span)-01"),
      ("cc-\(id)-\(span)-01-what-the-future-will-be-like", "00-\(id)-\(span)-01"),
      ("cc-\(id)-\(span)-01-", "00-\(id)-\(span)-01"),
    ])
  func `What the recommendation allows is read, and written as version 00`(
    _ text: String, _ written: String
  ) {
    #expect(TraceContext(text)?.traceparent == written)
  }

  @Test(
    arguments: [
      "", "00", "00-\(id)-\(span)", "00-\(id)-\(span)-", "00-\(id)-\(span)-0",
      "00-\(id)-\(span)-01-", "00-\(id)-\(span)-01-more", "00-\(id)-\(span)-01.",
      "cc-\(id)-\(span)-01.more", "cc-\(id)-\(span)-0", "ff-\(id)-\(span)-01",
      "0-\(id)-\(span)-001", "FF-\(id)-\(span)-01", "0x-\(id)-\(span)-01",
      "00-\(id.uppercased())-\(span)-01", "00-\(id)-\(span.uppercased())-01",
      "00-\(id)-\(span)-0A", "00-\(String(repeating: "0", count: 32))-\(span)-01",
      "00-\(id)-\(String(repeating: "0", count: 16))-01", "00_\(id)_\(span)_01",
      " 00-\(id)-\(span)-01", "00-\(id)-\(span)-01 ", "00-\(id)g-\(span)-01",
      "00-\(id)-\(span)-01, 00-\(id)-\(span)-01", "00-\(id.dropLast())é-\(span)-1",
      "00-\(id)-\(span)-\u{1F600}", String(repeating: "0", count: 55),
    ])
  func `Anything else counts as absent`(_ text: String) {
    #expect(TraceContext(text) == nil)
  }

  @Test
  func `What is read is written again, and its parts are those of the text`() throws {
    var random = SeededRandom(of: "traceparents")
    for _ in 0..<500 {
      let made = try #require(
        TraceContext(
          traceHigh: .random(in: 0 ... .max, using: &random),
          traceLow: .random(in: 1 ... .max, using: &random),
          spanID: .random(in: 1 ... .max, using: &random),
          flags: .random(in: 0...3, using: &random)))
      #expect(TraceContext(made.traceparent) == made)
      #expect(
        made.traceparent.hasPrefix("00-\(made.traceIDText)-\(made.spanIDText)-0"))
    }
    #expect(TraceContext(traceHigh: 0, traceLow: 0, spanID: 1, flags: 1) == nil)
    #expect(TraceContext(traceHigh: 1, traceLow: 0, spanID: 0, flags: 1) == nil)
  }

  @Test
  func `An event passes on its trace from any place and shape, and never an invalid one`() {
    let reader = TraceReader()
    func traceparent(_ document: Document) -> String? { reader.traceparent(document) }
    let good = "00-\(Self.id)-\(Self.span)-01"
    for round in 0..<3 {
      #expect(traceparent(Document()) == nil)
      #expect(traceparent(Document().with("traceparent", "\"\(good)\"")) == good)
      let other = "00-\(Self.id)-000000000000000\(round + 1)-00"
      #expect(traceparent(Document().with("traceparent", "\"\(other)\"")) == other)
      #expect(traceparent(Document().with("traceparent", "\"\(good)-x\"")) == nil)
      for json in ["null", "5", "{}", "[\"\(good)\"]", "\"\"", "\"00\\u0000\""] {
        #expect(traceparent(Document().with("traceparent", json)) == nil)
      }
      // If a name appears twice, the last one counts.
      #expect(
        traceparent(
          Document().with("traceparent", "\"\(good)\"").adding("traceparent", "null")) == nil)
      #expect(
        traceparent(Document().with("data", "{\"traceparent\":\"\(good)\"}")) == nil)
    }
  }
}

/// Decodes usage events one after the other, and returns the trace that each passes on.
private final class TraceReader {
  private var decoder = EventDecoder()

  func traceparent(_ document: Document) -> String? {
    let record = document.record
    return (record.value ?? []).withUnsafeBytes { value in
      (record.key ?? []).withUnsafeBytes { key in
        let event = decoder.decode(
          RecordBytes(value: value, key: key, timestamp: record.timestamp))
        #expect(event.kind == .usage)
        return event.traceparent.isAbsent ? nil : event.traceparent.string
      }
    }
  }
}
