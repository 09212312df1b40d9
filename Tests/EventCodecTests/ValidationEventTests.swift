import EventCodec
import Metering
import Recount
import Testing

/// Tests validation events by docs/event-validation.md, with each check at its bounds.
@Suite("Validation events")
struct ValidationEventTests {
  private static let document = Document()
    .with("type", #""license.validation.performed""#)
    .with("data", #"{"code":"domain_mismatch","valid":false,"domain":"pirated-site.com"}"#)

  private func decode(
    _ document: Document, _ reads: EventDecoder.Reads = .validations
  ) -> (kind: DecodedEvent.Kind, reason: RejectionReason, code: VerdictCode, domain: String) {
    var decoder = EventDecoder(reads)
    let record = document.record
    return record.value!.withUnsafeBytes { value in
      (record.key ?? []).withUnsafeBytes { key in
        let event = decoder.decode(
          RecordBytes(
            value: value, key: record.key == nil ? nil : key, timestamp: record.timestamp))
        return (event.kind, event.reason, event.code, event.domain.string)
      }
    }
  }

  @Test("Every verdict of the contract is read, and no other")
  func codes() {
    for code in VerdictCode.allCases {
      let found = decode(
        Self.document.with("data", "{\"code\":\"\(code.name)\",\"valid\":true}"))
      #expect(found.kind == .validation && found.code == code && found.domain.isEmpty)
    }
    #expect(decode(Self.document.with("data", #"{"code":"fine","valid":true}"#)).reason == .badData)
  }

  @Test("A foreign domain is passed on as it was written, and data of another form is refused")
  func data() {
    let found = decode(Self.document)
    #expect(found.kind == .validation && found.code == .domainMismatch)
    #expect(found.domain == "pirated-site.com")
    for data in [
      "null", "[]", "{}", #"{"code":"valid"}"#, #"{"valid":true}"#, #"{"code":1,"valid":true}"#,
      #"{"code":"valid","valid":1}"#, #"{"code":"valid","valid":true,"domain":7}"#,
    ] {
      let found = decode(Self.document.with("data", data))
      #expect(found.kind == .rejected && found.reason == .badData, "\(data)")
    }
    #expect(decode(Self.document.without("data")).reason == .badData)
    let nul = #"{"code":"valid","valid":true,"domain":"a\u0000"}"#
    #expect(decode(Self.document.with("data", nul)).reason == .nulInText)
    #expect(decode(Self.document.keyed(bytes("other"))).reason == .keyMismatch)
    #expect(decode(Self.document.without("time")).reason == .badTime)
  }

  @Test("Each topic refuses the other's type, and both read reports")
  func types() {
    #expect(decode(Self.document, .usage).reason == .wrongType)
    #expect(decode(Document()).reason == .wrongType)
    #expect(decode(.report).kind == .report)
  }

  @Test("Documents of one shape are read by that shape, whatever their values are")
  func shapes() {
    var decoder = EventDecoder(.validations)
    for code in ["domain_mismatch", "valid", "nonsense", "canceled"] {
      let record = Self.document.with(
        "data", "{\"code\":\"\(code)\",\"valid\":false,\"domain\":\"\(code).example\"}"
      ).record
      let kind = record.value!.withUnsafeBytes { value in
        record.key!.withUnsafeBytes { key in
          let event = decoder.decode(
            RecordBytes(value: value, key: key, timestamp: record.timestamp))
          if event.kind == .validation { #expect(event.domain.string == "\(code).example") }
          return event.kind
        }
      }
      #expect((kind == .validation) == (code != "nonsense"))
    }
  }
}
