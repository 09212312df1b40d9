import Metering
import Recount
import Testing

@Suite("Counting a partition again")
struct PartitionRecountTests {
  private func settings(window: Int64) -> RecountSettings {
    RecountSettings(windows: { _ in [WindowSize(fromOffset: 0, size: window)] })
  }

  private func recount(
    window: Int64 = 10, countFrom: Int64 = 0, sequences: [ExactText: Int64] = [:]
  ) -> PartitionRecount {
    PartitionRecount(
      partition: 0, settings: settings(window: window), countFrom: countFrom,
      sequences: sequences)
  }

  /// An event without a producer.
  private func plain(_ id: String) -> EventFixture {
    EventFixture().with("id", "\"\(id)\"").without("producer").without("sequence")
  }

  private func numbered(
    _ sequence: Int64, id: String? = nil, producer: String = "p"
  ) -> EventFixture {
    EventFixture().with("id", "\"\(id ?? "\(producer)-\(sequence)")\"")
      .with("producer", "\"\(producer)\"").with("sequence", "\(sequence)")
  }

  private func cause(_ decision: Decision) -> String {
    switch decision {
    case .counted: "counted"
    case .duplicate(_, let cause): cause.rawValue
    case .deadLetter(let reason, _): reason
    case .report: "report"
    }
  }

  @Test("An id is a duplicate W offsets later, and is not W + 1 offsets later")
  func windowIsExact() {
    for (distance, expected) in [(1, "id"), (9, "id"), (10, "id"), (11, "counted")] {
      var recount = recount(window: 10)
      _ = recount.feed(plain("a").at(100).record)
      #expect(cause(recount.feed(plain("a").at(100 + Int64(distance)).record)) == expected)
    }
    var none = recount(window: 0)
    _ = none.feed(plain("a").at(0).record)
    #expect(cause(none.feed(plain("a").at(1).record)) == "counted")
  }

  @Test("The window is 262,144 offsets if no other size is set")
  func defaultWindow() {
    for (distance, expected) in [(262_144, "id"), (262_145, "counted")] {
      var recount = PartitionRecount(partition: 0, settings: RecountSettings(), countFrom: 0)
      _ = recount.feed(plain("a").at(5).record)
      let again = recount.feed(plain("a").at(5 + Int64(distance)).record)
      #expect(cause(again) == expected)
    }
  }

  @Test("A duplicate renews the identity that it repeats")
  func duplicatesRenew() {
    var recount = recount(window: 10)
    let offsets: [Int64] = [0, 10, 20, 30, 41]
    let causes = offsets.map { cause(recount.feed(plain("a").at($0).record)) }
    #expect(causes == ["counted", "id", "id", "id", "counted"])
  }

  @Test("A window size applies from its offset on, and a larger one looks back before that offset")
  func windowHistory() {
    let settings = RecountSettings(windows: { _ in
      [WindowSize(fromOffset: 100, size: 50), WindowSize(fromOffset: 0, size: 5)]
    })
    var recount = PartitionRecount(partition: 0, settings: settings, countFrom: 0)
    let script: [(String, Int64, String)] = [
      ("a", 60, "counted"), ("b", 66, "counted"), ("a", 67, "counted"), ("b", 73, "counted"),
      ("c", 99, "counted"), ("b", 123, "id"), ("a", 124, "counted"),
    ]
    for (id, offset, expected) in script {
      #expect(cause(recount.feed(plain(id).at(offset).record)) == expected, "\(id) at \(offset)")
    }
  }

  @Test("The identity is made of subject, source and id, byte for byte")
  func identityIsExact() {
    var recount = recount()
    let events = [
      plain("a"), plain("a").with("source", #""other""#),
      plain("a").with("subject", #""l2""#).keyed("l2"), plain("b"),
      plain("\u{E9}"), plain("e\u{301}"), plain("A"),
      plain("xy").with("source", #""z""#), plain("x").with("source", #""yz""#),
    ]
    for (offset, event) in events.enumerated() {
      #expect(cause(recount.feed(event.at(Int64(offset)).record)) == "counted")
    }
    #expect(cause(recount.feed(plain(#"\u0061"#).at(9).record)) == "id")
  }

  @Test("Dead letters and reports neither enter the window nor move a sequence")
  func onlyValidEventsCountForDuplicates() {
    var recount = recount()
    let invalid = numbered(9, id: "a").with("time", "null").at(0)
    #expect(cause(recount.feed(invalid.record)) == "bad_time")
    let report = EventFixture.report.with("id", #""a""#).with("producer", #""p""#)
      .with("sequence", "9").keyed("p").at(1)
    #expect(cause(recount.feed(report.record)) == "report")
    #expect(cause(recount.feed(numbered(1, id: "a").at(2).record)) == "counted")
    #expect(recount.sequences == ["p": 1])
    #expect(recount.deadLetters == [0: "bad_time"])
  }

  @Test("A sequence at or below its producer's highest is a duplicate, however far back")
  func sequencesLastForever() {
    var recount = recount(window: 1)
    let script: [(Int64, String)] = [
      (5, "counted"), (5, "sequence"), (4, "sequence"), (7, "counted"), (6, "sequence"),
      (8, "counted"),
    ]
    for (index, (sequence, expected)) in script.enumerated() {
      let event = numbered(sequence, id: "\(index)").at(Int64(index) * 1_000_000)
      #expect(cause(recount.feed(event.record)) == expected)
    }
    let other = numbered(1, producer: "q").at(9_000_000)
    #expect(cause(recount.feed(other.record)) == "counted")
    #expect(recount.sequences == ["p": 8, "q": 1])
  }

  @Test("A duplicate by id moves its producer's sequence")
  func duplicatesMoveSequences() {
    var recount = recount()
    #expect(cause(recount.feed(numbered(1, id: "a").at(0).record)) == "counted")
    #expect(cause(recount.feed(numbered(5, id: "a").at(1).record)) == "id")
    #expect(cause(recount.feed(numbered(4, id: "b").at(2).record)) == "sequence")
  }

  @Test("An event with only a producer, or only a sequence, is judged by its id")
  func halfNumberedEventsAreJudgedById() {
    var recount = recount(sequences: ["p": 100])
    let noSequence = numbered(1, id: "a").without("sequence")
    let noProducer = numbered(1, id: "b").without("producer")
    #expect(cause(recount.feed(noSequence.at(0).record)) == "counted")
    #expect(cause(recount.feed(noProducer.at(1).record)) == "counted")
    #expect(cause(recount.feed(noSequence.at(2).record)) == "id")
    #expect(cause(recount.feed(noProducer.at(3).record)) == "id")
    #expect(recount.ledger.isEmpty)
    #expect(recount.sequences == ["p": 100])
  }

  @Test("Sequences that are known from before the log still apply")
  func startsFromKnownSequences() {
    var recount = recount(sequences: ["p": 3])
    #expect(cause(recount.feed(numbered(3).at(0).record)) == "sequence")
    #expect(cause(recount.feed(numbered(4).at(1).record)) == "counted")
  }

  @Test func `A checkpoint replaces what is known of producers, and nothing else`() {
    let known = RecountCheckpoint(
      offset: 10,
      producers: [
        .init(name: "old", sequence: 99, isForgotten: true),
        .init(name: "q", sequence: -1, deadSequence: 5),
        .init(name: "p", sequence: 8, entry: LedgerEntry(counted: 3)),
      ])
    var recount = PartitionRecount(
      partition: 0, settings: settings(window: 10), countFrom: 0, checkpoint: known)
    let script: [(EventFixture, String)] = [
      (numbered(7).at(3), "counted"), (numbered(9, producer: "r").at(4), "counted"),
      // From here on the checkpoint counts, because the log may have only a part of the sequences
      // before it.
      (numbered(8, id: "x").at(11), "sequence"), (numbered(9).at(12), "counted"),
      (numbered(3, producer: "r").at(13), "counted"),
      (numbered(1, id: "p-7", producer: "old").at(14), "counted"),
      (plain("p-9").at(15), "id"),
    ]
    for (event, expected) in script {
      #expect(cause(recount.feed(event.record)) == expected, "\(event)")
    }
    _ = recount.feed(numbered(5, producer: "q").with("time", "0").at(16).record)
    _ = recount.feed(numbered(6, producer: "q").with("time", "0").at(17).record)
    #expect(
      recount.ledgerBefore == ["p": LedgerEntry(counted: 1), "r": LedgerEntry(counted: 1)])
    #expect(
      recount.ledger == [
        "p": LedgerEntry(counted: 1, duplicates: 1), "r": LedgerEntry(counted: 1),
        "old": LedgerEntry(counted: 1), "q": LedgerEntry(deadLettered: 1),
      ])
  }

  @Test func `A checkpoint at the log's end is reached without a record behind it`() {
    let known = RecountCheckpoint(offset: 4, producers: [.init(name: "p", sequence: 3)])
    var recount = PartitionRecount(
      partition: 0, settings: settings(window: 10), countFrom: 0, checkpoint: known)
    _ = recount.feed(numbered(3).at(3).record)
    #expect(recount.ledgerBefore == nil)
    recount.reach(4)
    #expect(recount.ledgerBefore == ["p": LedgerEntry(counted: 1)] && recount.ledger.isEmpty)
  }

  @Test("A requeued dead letter counts once, whatever its sequence, unless its id is known")
  func requeuedCountsOnce() {
    var recount = recount(window: 3)
    #expect(cause(recount.feed(numbered(9).at(0).record)) == "counted")
    let requeued = numbered(2).requeuing("license.usage.v1/0/17")
    #expect(cause(recount.feed(requeued.at(1).record)) == "counted")
    #expect(cause(recount.feed(requeued.at(2).record)) == "requeued")
    #expect(cause(recount.feed(requeued.at(1_000).record)) == "requeued")
    let another = numbered(2).requeuing("license.usage.v1/0/18")
    #expect(cause(recount.feed(another.at(1_001).record)) == "id")
    // A duplicate settles its dead letter for ever.
    #expect(cause(recount.feed(another.at(1_050).record)) == "requeued")
    let third = numbered(2).requeuing("license.usage.v1/0/19")
    #expect(cause(recount.feed(third.at(1_100).record)) == "counted")
    // A requeued event is in the window for events that come without the header.
    let plain = numbered(2).without("producer").at(1_102)
    #expect(cause(recount.feed(plain.record)) == "id")
    // After a log has lost its end, another dead letter can have the same place.
    let other = numbered(1).requeuing("license.usage.v1/0/17").at(1_103)
    #expect(cause(recount.feed(other.record)) == "counted")
    let entry = LedgerEntry(counted: 1, requeued: 3)
    #expect(recount.ledger == ["p": entry])
    // A dead letter that is still no valid event has not counted yet.
    let invalid = numbered(3).requeuing("x").with("time", "0").at(1_203)
    #expect(cause(recount.feed(invalid.record)) == "bad_time")
    #expect(cause(recount.feed(numbered(3).requeuing("x").at(1_204).record)) == "counted")
  }

  @Test("Dead letters that counted before the log begins do not count again")
  func knowsEarlierRequeues() {
    let known = plain("a").requeuing("x").at(0).record
    var recount = PartitionRecount(
      partition: 0, settings: RecountSettings(), countFrom: 0,
      requeuedLetters: [RequeuedLetter(header: "x", value: known.value ?? [])])
    #expect(cause(recount.feed(known)) == "requeued")
    #expect(cause(recount.feed(plain("b").requeuing("y").at(1).record)) == "counted")
  }

  @Test("Below countFrom the window and the sequences fill up, and nothing is counted")
  func countsFromAnOffset() {
    var recount = recount(countFrom: 5)
    _ = recount.feed(plain("a").at(0).record)
    _ = recount.feed(numbered(7).at(1).record)
    _ = recount.feed(numbered(8).with("time", "0").at(2).record)
    _ = recount.feed(plain("r").requeuing("x").at(4).record)
    #expect(recount.totals.isEmpty && recount.ledger.isEmpty && recount.deadLetters.isEmpty)
    #expect(recount.provenance.isEmpty && recount.dimensionTotals.isEmpty)
    #expect(cause(recount.feed(plain("a").at(5).record)) == "id")
    #expect(cause(recount.feed(numbered(7).at(6).record)) == "sequence")
    #expect(cause(recount.feed(plain("r").requeuing("x").at(7).record)) == "requeued")
    _ = recount.feed(numbered(8).with("time", "0").at(8).record)
    #expect(cause(recount.feed(plain("b").at(9).record)) == "counted")
    #expect(recount.ledger == ["p": LedgerEntry(duplicates: 1)])
    #expect(recount.totals.values.map(\.eventCount) == [1])
  }

  @Test("The ledger separates counted, duplicate and repeated events and dead letters")
  func keepsTheLedger() {
    var recount = recount()
    let script: [EventFixture] = [
      numbered(1, id: "a"), numbered(2, id: "a"), numbered(2, id: "a"), numbered(3, id: "b"),
      numbered(5).with("time", "0"), numbered(5).with("time", "0"), numbered(4).with("id", "0"),
      numbered(6).with("type", #""x""#), numbered(7).with("sequence", "1.0"),
      numbered(1, producer: "q").with("subject", "0"),
    ]
    for (offset, fixture) in script.enumerated() {
      _ = recount.feed(fixture.at(Int64(offset)).record)
    }
    let p = LedgerEntry(counted: 2, duplicates: 2, repeated: 1, deadLettered: 2)
    #expect(recount.ledger == ["p": p, "q": LedgerEntry(deadLettered: 1)])
    #expect(recount.deadLetteredSequences == ["p": 6, "q": 1])
  }

  @Test("Minutes, days and hours are those of the event's time, before 1970 too")
  func rowsAreByEventTime() {
    var recount = recount()
    let times = [
      "1970-01-01T00:00:59.999Z", "1969-12-31T23:59:59.999Z", "1969-12-31T23:00:00Z",
      "0001-01-01T00:00:00Z",
    ]
    for (offset, time) in times.enumerated() {
      let event = plain("\(offset)").with("time", "\"\(time)\"").at(Int64(offset), timestamp: -1)
      #expect(cause(recount.feed(event.record)) == "counted")
    }
    let minutes = recount.totals.keys.sorted().map(\.minuteStart)
    #expect(minutes == [-1_035_593_280, -60, -1, 0])
    let hours = Set(recount.provenance.keys.map(\.hourStart))
    #expect(hours == [-1_035_593_280, -60, 0])
    let days = Set(recount.dimensionTotals.keys.map(\.dayStart))
    #expect(days == [-1_035_593_280, -1440, 0])
  }

  @Test("Quantities, dimensions and provenance are those of the counted events")
  func countsQuantities() {
    var recount = recount(window: 100)
    let script: [(EventFixture, Int64)] = [
      (plain("a"), 3), (plain("a"), 5), (plain("b").with("data", #"{"quantity":4}"#), 6),
      (plain("c").with("time", "0"), 7), (plain("d").with("data", #"{"quantity":0}"#), 8),
      (plain("d"), 9),
    ]
    for (fixture, offset) in script {
      _ = recount.feed(fixture.at(offset).record)
    }
    let minute = sampleTime / 60_000
    let key = UsageKey(license: "lic_abc123", meter: "api_calls", minuteStart: minute)
    #expect(recount.totals == [key: Tally(quantity: 7, eventCount: 3)])
    let hour = PartitionRecount.ProvenanceKey(
      license: "lic_abc123", meter: "api_calls", hourStart: minute / 60 * 60)
    #expect(recount.provenance == [hour: OffsetRange(firstOffset: 3, lastOffset: 8)])
    let day = minute / 1440 * 1440
    let domain = DimensionKey(
      license: "lic_abc123", meter: "api_calls", dayStart: day, dimension: .domain,
      value: "app.example.com")
    let feature = DimensionKey(
      license: "lic_abc123", meter: "api_calls", dayStart: day, dimension: .feature, value: "x")
    let tally = Tally(quantity: 3, eventCount: 1)
    #expect(recount.dimensionTotals == [domain: tally, feature: tally])
  }

  /// The page's rules word for word. Every event is compared with the whole history.
  @Test("Random streams give the same result as a search of the whole history", arguments: 0..<20)
  func agreesWithTheWholeHistory(seed: UInt64) {
    var random = SplitMix64(seed: seed)
    let window = Int64.random(in: 0...12, using: &random)
    var recount = recount(window: window)
    var history: [(offset: Int64, id: Int, producer: Int?, sequence: Int64?)] = []
    var offset: Int64 = 0
    for _ in 0..<600 {
      offset += Int64.random(in: 1...3, using: &random)
      let id = Int.random(in: 0..<8, using: &random)
      let producer = Bool.random(using: &random) ? Int.random(in: 0..<2, using: &random) : nil
      let sequence = producer.map { _ in offset / 4 + Int64.random(in: -3...3, using: &random) + 3 }
      var fixture = plain("\(id)").at(offset)
      if let producer, let sequence {
        fixture = fixture.with("producer", "\"\(producer)\"").with("sequence", "\(sequence)")
      }
      let bySequence = history.contains { earlier in
        guard let producer, let sequence, earlier.producer == producer else { return false }
        return earlier.sequence.map { sequence <= $0 } ?? false
      }
      let byId = history.contains { $0.id == id && $0.offset >= offset - window }
      let expected = bySequence ? "sequence" : byId ? "id" : "counted"
      #expect(cause(recount.feed(fixture.record)) == expected, "at \(offset), W \(window)")
      history.append((offset, id, producer, sequence))
    }
  }
}
