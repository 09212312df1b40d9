import Metering

/// What `DomainWatch` remembers about one license. Times are the log's, in milliseconds.
struct LicenseSightings: Sendable, Equatable {
  struct Pair: Sendable, Equatable {
    var domain: String
    /// The event's own time.
    var firstSeen: Int64
    var toldAt: Int64
    /// Sightings since the last report.
    var count: Int64 = 0
    var firstOffset: Int64
    var lastOffset: Int64
  }

  struct SpreadName: Sendable, Equatable {
    var name: String
    var seenAt: Int64
    var firstOffset: Int64
  }

  /// The sightings that the hour's alerts did not report.
  struct Overflow: Sendable, Equatable {
    var count: Int64 = 0
    var firstSeen: Int64 = 0
    var firstOffset: Int64 = 0
    var lastOffset: Int64 = 0
    var domains = DistinctSketch()
    var frequent = FrequentNames()
  }

  struct Ended: Sendable, Equatable {
    var isCanceled: Bool
    var toldAt: Int64
    var firstSeen: Int64
    var count: Int64 = 0
    var firstOffset: Int64
  }

  static let sample = 10
  /// The number of registrable domains that are counted exactly. More are estimated.
  static let exact = 16

  /// Its index in `DomainWatch.names`.
  var place = 0
  var sightings: Int64 = 0
  var lastSeen: Int64
  var pairs: [Pair] = []
  var hourBegan: Int64
  var toldInHour = 0
  var overflow: Overflow?
  /// The foreign registrable domains of the last hour, each with its last sighting. If there are
  /// too many, the sketch counts them from then on.
  var spreadNames: [SpreadName] = []
  var spreadSketch: DistinctSketch?
  var sketchBegan: Int64 = 0
  /// How many times the spread had grown tenfold when it was last reported, and when it was first
  /// reported in its hour; −1 if it was not.
  var spreadLevel = -1
  var spreadToldAt: Int64 = 0
  /// The foreign registrable domains of the last two weeks, each with its first sighting, and the
  /// time at which a slow spread was reported.
  var slowNames: [SpreadName] = []
  var slowToldAt: Int64 = 0
  var endedUse: Ended?
  /// The result of `planNext`.
  var nextDue: Int64

  init(clock: Int64) {
    lastSeen = clock
    hourBegan = clock
    nextDue = clock + DomainWatch.day
  }

  // MARK: Domains one by one

  mutating func mismatch(
    _ domain: String, _ sighting: DomainWatch.Sighting, clock: Int64, seed: UInt64,
    _ findings: inout [DomainFinding]
  ) {
    if let i = pairs.firstIndex(where: { $0.domain == domain }) {
      if pairs[i].count == 0 { pairs[i].firstOffset = sighting.offset }
      pairs[i].count += 1
      pairs[i].lastOffset = sighting.offset
      if clock >= pairs[i].toldAt + DomainWatch.hour {
        tell(i, sighting.license.string, clock, &findings)
      }
      return
    }
    guard toldInHour < DomainWatch.alertsPerHour else {
      overflow(domain, DistinctSketch.hash(domain, seed: seed), sighting)
      return
    }
    makeRoom()
    pairs.append(
      Pair(
        domain: domain, firstSeen: sighting.time, toldAt: clock, count: 1,
        firstOffset: sighting.offset, lastOffset: sighting.offset))
    tell(pairs.count - 1, sighting.license.string, clock, &findings)
  }

  private mutating func tell(
    _ i: Int, _ license: String, _ time: Int64, _ findings: inout [DomainFinding]
  ) {
    guard toldInHour < DomainWatch.alertsPerHour else { return }
    toldInHour += 1
    let pair = pairs[i]
    findings.append(
      DomainFinding(
        kind: .domainMismatch(
          domain: pair.domain, count: pair.count, firstSeen: pair.firstSeen),
        license: license, recordedAt: time, occurredAt: time, firstOffset: pair.firstOffset,
        lastOffset: pair.lastOffset,
        dedupeKey: Self.key("domain_mismatch", license, time / DomainWatch.hour, pair.domain)))
    pairs[i].toldAt = time
    pairs[i].count = 0
  }

  private mutating func overflow(
    _ domain: String, _ hash: UInt64, _ sighting: DomainWatch.Sighting
  ) {
    var beyond =
      overflow ?? Overflow(firstSeen: sighting.time, firstOffset: sighting.offset)
    beyond.count += 1
    beyond.lastOffset = sighting.offset
    beyond.domains.insert(hash)
    beyond.frequent.insert(domain)
    overflow = beyond
  }

  /// Drops the pair whose last report is the oldest.
  private mutating func makeRoom() {
    guard pairs.count >= DomainWatch.pairs else { return }
    let oldest = pairs.indices.min { pairs[$0].toldAt < pairs[$1].toldAt }!
    pairs.remove(at: oldest)
  }

  /// Returns everything that was due by now, each with its own time, so that it does not matter
  /// when the caller looks. Hours follow each other from the license's first sighting.
  ///
  /// - Complexity: at most O(pairs²).
  mutating func catchUp(
    _ license: String, to clock: Int64, _ findings: inout [DomainFinding]
  ) {
    while true {
      let hourEnd = hourBegan + DomainWatch.hour
      let next = pairs.indices.filter { pairs[$0].count > 0 }.map { (due: due($0), place: $0) }
        .min { $0.due < $1.due }
      if toldInHour > 0 || overflow != nil, hourEnd <= (next?.due ?? .max) {
        guard hourEnd <= clock else { break }
        endHour(license, hourEnd, &findings)
      } else {
        guard let next, next.due <= clock else { break }
        hourBegan += max(next.due - hourBegan, 0) / DomainWatch.hour * DomainWatch.hour
        tell(next.place, license, next.due, &findings)
      }
    }
    hourBegan += max(clock - hourBegan, 0) / DomainWatch.hour * DomainWatch.hour
    pairs.removeAll { $0.count == 0 && clock >= $0.toldAt + DomainWatch.day }
  }

  /// When the count of a pair is reported: an hour after its last report, and not in an hour that
  /// has used up its alerts.
  private func due(_ pair: Int) -> Int64 {
    let due = pairs[pair].toldAt + DomainWatch.hour
    return toldInHour < DomainWatch.alertsPerHour ? due : max(due, hourBegan + DomainWatch.hour)
  }

  private mutating func endHour(
    _ license: String, _ time: Int64, _ findings: inout [DomainFinding]
  ) {
    if let beyond = overflow {
      findings.append(
        DomainFinding(
          kind: .mismatchDigest(
            count: beyond.count, distinctDomains: beyond.domains.estimate,
            mostFrequent: beyond.frequent.top(Self.sample).map {
              DomainFinding.Frequent(domain: $0.name, count: $0.atLeast)
            }, firstSeen: beyond.firstSeen),
          license: license, recordedAt: time, occurredAt: time, firstOffset: beyond.firstOffset,
          lastOffset: beyond.lastOffset,
          dedupeKey: Self.key("domain_mismatch_digest", license, hourBegan / DomainWatch.hour)))
    }
    overflow = nil
    toldInHour = 0
    hourBegan = time
  }

  /// When there will be something to do without another sighting: a count to report, an hour to
  /// end, or the license to forget.
  func planNext() -> Int64 {
    let counts = pairs.indices.filter { pairs[$0].count > 0 }.map { due($0) }.min() ?? .max
    let hourEnd = overflow == nil ? Int64.max : hourBegan + DomainWatch.hour
    let told = pairs.map(\.toldAt).max() ?? lastSeen
    return min(counts, hourEnd, max(lastSeen + keptFor, told + DomainWatch.day))
  }

  func isForgotten(_ clock: Int64) -> Bool {
    pairs.isEmpty && overflow == nil && clock >= lastSeen + keptFor
  }

  /// Slow leaks need a long memory.
  private var keptFor: Int64 { slowNames.isEmpty ? DomainWatch.day : DomainWatch.slowSpread }

  // MARK: How many

  /// Finds domains that appear now and then, which no hour would show.
  mutating func slowSpread(
    _ registrable: String, _ sighting: DomainWatch.Sighting, clock: Int64, allowance: Int,
    _ findings: inout [DomainFinding]
  ) {
    slowNames.removeAll { $0.seenAt <= clock - DomainWatch.slowSpread }
    guard slowNames.count < Self.exact, !slowNames.contains(where: { $0.name == registrable })
    else { return }
    slowNames.append(
      SpreadName(name: registrable, seenAt: clock, firstOffset: sighting.offset))
    let days = Set(slowNames.map { $0.seenAt / DomainWatch.day })
    guard slowNames.count > min(allowance * DomainWatch.slowAllowances, Self.exact - 1),
      days.count >= DomainWatch.slowSpreadDays,
      slowToldAt == 0 || slowToldAt <= clock - DomainWatch.slowSpread
    else { return }
    slowToldAt = clock
    findings.append(
      DomainFinding(
        kind: .slowSpread(
          distinctDomains: slowNames.count, sample: slowNames.map(\.name)),
        license: sighting.license.string, recordedAt: clock, occurredAt: clock,
        firstOffset: slowNames[0].firstOffset, lastOffset: sighting.offset,
        dedupeKey: Self.key(
          "domain_spread", sighting.license.string, clock / DomainWatch.day, "days")))
  }

  mutating func spread(
    _ registrable: String, _ sighting: DomainWatch.Sighting, clock: Int64, allowance: Int,
    seed: UInt64, _ findings: inout [DomainFinding]
  ) {
    let hourAgo = clock - DomainWatch.hour
    spreadNames.removeAll { $0.seenAt <= hourAgo }
    if spreadSketch != nil, sketchBegan <= hourAgo { spreadSketch = nil }
    if spreadToldAt <= hourAgo { spreadLevel = -1 }
    if let i = spreadNames.firstIndex(where: { $0.name == registrable }) {
      spreadNames[i].seenAt = clock
      return
    }
    guard note(registrable, sighting, clock, seed) else { return }
    let distinct = spreadSketch?.estimate ?? spreadNames.count
    guard distinct > allowance else { return }
    var level = 0
    var bound = max(allowance, 1) * 10
    while distinct > bound, level < 12 {
      level += 1
      bound *= 10
    }
    // As long as there are few, the spread is reported repeatedly under one key, because somebody
    // who knows the bound domains may not have counted some of them.
    guard level > spreadLevel || spreadSketch == nil else { return }
    if spreadLevel < 0 { spreadToldAt = clock }
    spreadLevel = level
    let shown = spreadSketch == nil ? Self.exact : Self.sample
    findings.append(
      DomainFinding(
        kind: .domainSpread(
          distinctDomains: distinct, sample: spreadNames.prefix(shown).map(\.name),
          isExact: spreadSketch == nil),
        license: sighting.license.string, recordedAt: clock, occurredAt: clock,
        firstOffset: spreadNames.first?.firstOffset ?? sighting.offset,
        lastOffset: sighting.offset,
        dedupeKey: Self.key(
          "domain_spread", sighting.license.string, spreadToldAt / DomainWatch.hour, "\(level)")))
  }

  /// - Returns: false if the domain was counted already.
  private mutating func note(
    _ registrable: String, _ sighting: DomainWatch.Sighting, _ clock: Int64, _ seed: UInt64
  ) -> Bool {
    if spreadSketch == nil, spreadNames.count == Self.exact {
      var sketch = DistinctSketch()
      for known in spreadNames { sketch.insert(DistinctSketch.hash(known.name, seed: seed)) }
      spreadSketch = sketch
      sketchBegan = clock
    }
    if spreadNames.count < Self.exact {
      spreadNames.append(
        SpreadName(name: registrable, seenAt: clock, firstOffset: sighting.offset))
    }
    // A sketch that did not change gives the same estimate as before.
    return spreadSketch?.insert(DistinctSketch.hash(registrable, seed: seed)) ?? true
  }

  // MARK: Ended licenses

  mutating func ended(
    isCanceled: Bool, _ sighting: DomainWatch.Sighting, clock: Int64,
    _ findings: inout [DomainFinding]
  ) {
    var use =
      endedUse
      ?? Ended(
        isCanceled: isCanceled, toldAt: .min, firstSeen: sighting.time,
        firstOffset: sighting.offset)
    if use.isCanceled != isCanceled {
      use = Ended(
        isCanceled: isCanceled, toldAt: .min, firstSeen: sighting.time,
        firstOffset: sighting.offset)
    }
    if use.count == 0 { use.firstOffset = sighting.offset }
    use.count += 1
    if use.toldAt == .min || clock >= use.toldAt + DomainWatch.day {
      findings.append(
        DomainFinding(
          kind: .canceledUse(isCanceled: isCanceled, count: use.count, firstSeen: use.firstSeen),
          license: sighting.license.string, recordedAt: clock, occurredAt: clock,
          firstOffset: use.firstOffset, lastOffset: sighting.offset,
          dedupeKey: Self.key(
            "canceled_use", sighting.license.string, clock / DomainWatch.day,
            isCanceled ? "canceled" : "suspended")))
      use.toldAt = clock
      use.count = 0
    }
    endedUse = use
  }

  private static func key(
    _ reason: String, _ license: String, _ window: Int64, _ rest: String? = nil
  ) -> String {
    "license.suspicious_activity/\(reason)/\(license)/\(window)" + (rest.map { "/\($0)" } ?? "")
  }
}
