import Metering

extension DomainWatch {
  /// Raised whenever the layout below changes. A state of an older version is not read.
  private static let layout: UInt16 = 4

  /// Everything it remembers, for `init(settings:state:)`.
  package func state() -> [UInt8] {
    var writer = StateWriter()
    writer.put(Self.layout)
    writer.put(seed)
    writer.put(clock)
    writer.put(UInt32(licenses.count))
    for name in names {
      writer.put(name.string)
      licenses[name]!.write(to: &writer)
    }
    return writer.bytes
  }

  /// Nil unless this version wrote the state.
  package init?(settings: Settings, state: [UInt8]) {
    var reader = StateReader(state)
    do throws(StateReader.Malformed) {
      guard try reader.integer(UInt16.self) == Self.layout else { return nil }
      self.init(settings: settings, seed: try reader.integer())
      clock = try reader.integer()
      for _ in 0..<Int(try reader.integer(UInt32.self)) {
        let name = Identifier(try reader.text())
        var license = try LicenseSightings(from: &reader)
        guard licenses[name] == nil else { return nil }
        license.place = names.count
        names.append(name)
        licenses[name] = license
      }
    } catch { return nil }
    guard reader.isAtEnd else { return nil }
  }
}

extension LicenseSightings {
  fileprivate func write(to writer: inout StateWriter) {
    for number in [sightings, lastSeen, hourBegan, Int64(toldInHour), nextDue] {
      writer.put(number)
    }
    for number in [Int64(spreadLevel), spreadToldAt, sketchBegan] { writer.put(number) }
    writer.put(pairs) { writer, pair in
      writer.put(pair.domain)
      for number in [pair.firstSeen, pair.toldAt, pair.count, pair.firstOffset, pair.lastOffset] {
        writer.put(number)
      }
    }
    writer.put(optional: overflow) { writer, beyond in
      for number in [beyond.count, beyond.firstSeen, beyond.firstOffset, beyond.lastOffset] {
        writer.put(number)
      }
      writer.put(beyond.domains.ranks)
      writer.put(beyond.frequent.counters) { writer, counter in
        writer.put(counter.name)
        writer.put(counter.count)
        writer.put(counter.error)
      }
    }
    writer.put(spreadNames) { writer, known in
      writer.put(known.name)
      writer.put(known.seenAt)
      writer.put(known.firstOffset)
    }
    writer.put(slowNames) { writer, known in
      writer.put(known.name)
      writer.put(known.seenAt)
      writer.put(known.firstOffset)
    }
    writer.put(slowToldAt)
    writer.put(optional: spreadSketch) { $0.put($1.ranks) }
    writer.put(optional: endedUse) { writer, use in
      writer.put(UInt8(use.isCanceled ? 1 : 0))
      for number in [use.toldAt, use.firstSeen, use.count, use.firstOffset] { writer.put(number) }
    }
  }

  fileprivate init(from reader: inout StateReader) throws(StateReader.Malformed) {
    self.init(clock: 0)
    sightings = try reader.integer()
    lastSeen = try reader.integer()
    hourBegan = try reader.integer()
    toldInHour = Int(try reader.integer(Int64.self))
    nextDue = try reader.integer()
    spreadLevel = Int(try reader.integer(Int64.self))
    spreadToldAt = try reader.integer()
    sketchBegan = try reader.integer()
    pairs = try reader.list(atMost: DomainWatch.pairs) { reader throws(StateReader.Malformed) in
      Pair(
        domain: try reader.text(), firstSeen: try reader.integer(), toldAt: try reader.integer(),
        count: try reader.integer(), firstOffset: try reader.integer(),
        lastOffset: try reader.integer())
    }
    overflow = try reader.optional { reader throws(StateReader.Malformed) in
      Overflow(
        count: try reader.integer(), firstSeen: try reader.integer(),
        firstOffset: try reader.integer(), lastOffset: try reader.integer(),
        domains: try Self.sketch(&reader), frequent: try Self.frequentNames(&reader))
    }
    spreadNames = try reader.list(atMost: Self.exact) { reader throws(StateReader.Malformed) in
      SpreadName(
        name: try reader.text(), seenAt: try reader.integer(), firstOffset: try reader.integer())
    }
    slowNames = try reader.list(atMost: Self.exact) { reader throws(StateReader.Malformed) in
      SpreadName(
        name: try reader.text(), seenAt: try reader.integer(), firstOffset: try reader.integer())
    }
    slowToldAt = try reader.integer()
    spreadSketch = try reader.optional(Self.sketch)
    endedUse = try reader.optional { reader throws(StateReader.Malformed) in
      Ended(
        isCanceled: try reader.integer(UInt8.self) == 1, toldAt: try reader.integer(),
        firstSeen: try reader.integer(), count: try reader.integer(),
        firstOffset: try reader.integer())
    }
  }

  private static func sketch(
    _ reader: inout StateReader
  ) throws(StateReader.Malformed) -> DistinctSketch {
    guard let sketch = DistinctSketch(ranks: try reader.raw()) else {
      throw StateReader.Malformed()
    }
    return sketch
  }

  private static func frequentNames(
    _ reader: inout StateReader
  ) throws(StateReader.Malformed) -> FrequentNames {
    let counters = try reader.list(atMost: FrequentNames.capacity) {
      reader throws(StateReader.Malformed) in
      FrequentNames.Counter(
        name: try reader.text(), count: try reader.integer(), error: try reader.integer())
    }
    guard let names = FrequentNames(counters: counters) else { throw StateReader.Malformed() }
    return names
  }
}
