import Testing

@testable import LogAudit

/// Which records a search by id looks at. It looks at a bounded number of them, so a record that
/// merely contains the id's characters must not take the place of the event.
@Suite struct EventSearchTests {
  private func match(_ record: String, _ id: String) -> EventSearch.Match? {
    Array(record.utf8).withUnsafeBytes { EventSearch.match($0, Array(id.utf8)) }
  }

  @Test func `An event is found by its id, however the id is spelled`() {
    #expect(match(#"{"id":"a/1","source":"/s"}"#, "a/1") == .event)
    #expect(match(#"{"id":"a\/1","source":"/s"}"#, "a/1") == .event)
    #expect(match(#"{"id":"\u0061/1"}"#, "a/1") == .event)
    #expect(match(#"{"id":"Mu\u0308ller"}"#, "Mu\u{308}ller") == .event)
    // These are equal for a reader, but their bytes differ.
    #expect(match(#"{"id":"M\u00fcller"}"#, "Mu\u{308}ller") == nil)
  }

  @Test func `An id that stands elsewhere in an event, or within another id, is no match`() {
    #expect(match(#"{"id":"b","subject":"1"}"#, "1") == nil)
    #expect(match(#"{"id":"411","time":"2026-01-01T00:00:00Z"}"#, "1") == nil)
    // An escape alone does not make a candidate.
    #expect(match(#"{"id":"b","source":"http:\/\/x"}"#, "1") == nil)
  }

  @Test func `A record that is not JSON, or whose id is not a string, is a dead letter by that id`()
  {
    #expect(match(#"{"id":"ev-7","#, "ev-7") == .text)
    #expect(match("ev-7", "ev-7") == nil)
    #expect(match(#"{"id":42}"#, "42") == .event)
    #expect(match("", "x") == nil)
    #expect(match(#"[{"id":"x"}]"#, "x") == nil)
  }
}
