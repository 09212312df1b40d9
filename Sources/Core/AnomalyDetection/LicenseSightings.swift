/// What `DomainWatch` remembers of one license. Times are the log's, milliseconds.
struct LicenseSightings: Sendable, Equatable {
  struct Pair: Sendable, Equatable {
    var domain: String
    /// The event's own time.
    var firstSeen: Int64
    var toldAt: Int64
    /// Since it was told.
    var count: Int64 = 0
    var firstOffset: Int64
    var lastOffset: Int64
  }

  /// What the hour's alerts did not tell.
  struct Overflow: Sendable, Equatable {
    var domain = ""
    var count: Int64 = 0
    var firstSeen: Int64 = 0
    var firstOffset: Int64 = 0
    var lastOffset: Int64 = 0
    var domains = DistinctSketch()
    var sample: [String] = []
  }

  struct Ended: Sendable, Equatable {
    var isCanceled: Bool
    var toldAt: Int64
    var firstSeen: Int64
    var count: Int64 = 0
    var firstOffset: Int64
  }

  static let sample = 10
  /// Registrable domains that are told apart; more are estimated.
  static let exact = 16

  var sightings: Int64 = 0
  var lastSeen: Int64
  var pairs: [Pair] = []
  var hourBegan: Int64
  var toldInHour = 0
  var overflow: Overflow?
  var spreadBegan: Int64
  var spreadNames: [String] = []
  var spreadSketch: DistinctSketch?
  /// How often the spread of this window had grown tenfold when it was told last; −1: it was not.
  var spreadLevel = -1
  var spreadFirstOffset: Int64 = 0
  var endedUse: Ended?
  /// When `digest` may have anything to do.
  var nextDigest: Int64

  init(clock: Int64) {
    lastSeen = clock
    hourBegan = clock
    spreadBegan = clock
    nextDigest = clock + DomainWatch.hour
  }

  // MARK: Domains one by one

  mutating func mismatch(
    _ domain: String, _ sighting: DomainWatch.Sighting, clock: Int64, seed: UInt64,
    _ findings: inout [DomainFinding]
  ) {
    beginHour(sighting.license, clock, &findings)
    if let i = pairs.firstIndex(where: { $0.domain == domain }) {
      if pairs[i].count == 0 { pairs[i].firstOffset = sighting.offset }
      pairs[i].count += 1
      pairs[i].lastOffset = sighting.offset
      if clock >= pairs[i].toldAt + DomainWatch.hour { tell(i, sighting.license, clock, &findings) }
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
    tell(pairs.count - 1, sighting.license, clock, &findings)
  }

  private mutating func tell(
    _ i: Int, _ license: String, _ clock: Int64, _ findings: inout [DomainFinding]
  ) {
    guard toldInHour < DomainWatch.alertsPerHour else { return }
    toldInHour += 1
    let pair = pairs[i]
    findings.append(
      DomainFinding(
        kind: .domainMismatch(
          domain: pair.domain, count: pair.count, firstSeen: pair.firstSeen),
        license: license, recordedAt: clock, occurredAt: clock, firstOffset: pair.firstOffset,
        lastOffset: pair.lastOffset,
        dedupeKey: Self.key("domain_mismatch", license, clock / DomainWatch.hour, pair.domain)))
    pairs[i].toldAt = clock
    pairs[i].count = 0
  }

  private mutating func overflow(
    _ domain: String, _ hash: UInt64, _ sighting: DomainWatch.Sighting
  ) {
    var beyond =
      overflow ?? Overflow(firstSeen: sighting.time, firstOffset: sighting.offset)
    beyond.domain = domain
    beyond.count += 1
    beyond.lastOffset = sighting.offset
    beyond.domains.insert(hash)
    if beyond.sample.count < Self.sample, !beyond.sample.contains(domain) {
      beyond.sample.append(domain)
    }
    overflow = beyond
  }

  /// The pair that was told longest ago leaves.
  private mutating func makeRoom() {
    guard pairs.count >= DomainWatch.pairs else { return }
    let oldest = pairs.indices.min { pairs[$0].toldAt < pairs[$1].toldAt }!
    pairs.remove(at: oldest)
  }

  private mutating func beginHour(
    _ license: String, _ clock: Int64, _ findings: inout [DomainFinding]
  ) {
    guard clock >= hourBegan + DomainWatch.hour else { return }
    if let beyond = overflow {
      findings.append(
        DomainFinding(
          kind: .mismatchDigest(
            domain: beyond.domain, count: beyond.count, distinctDomains: beyond.domains.estimate,
            sample: beyond.sample, firstSeen: beyond.firstSeen),
          license: license, recordedAt: clock, occurredAt: clock,
          firstOffset: beyond.firstOffset, lastOffset: beyond.lastOffset,
          dedupeKey: Self.key("domain_mismatch_digest", license, hourBegan / DomainWatch.hour)))
    }
    overflow = nil
    toldInHour = 0
    hourBegan = clock
  }

  /// Tells what was counted since the alerts of an hour ago, and forgets what is long past.
  mutating func digest(_ license: String, clock: Int64, _ findings: inout [DomainFinding]) {
    beginHour(license, clock, &findings)
    for i in pairs.indices where pairs[i].count > 0 && clock >= pairs[i].toldAt + DomainWatch.hour {
      tell(i, license, clock, &findings)
    }
    pairs.removeAll { $0.count == 0 && clock >= $0.toldAt + DomainWatch.day }
    nextDigest = clock + DomainWatch.hour / 60
  }

  func isForgotten(_ clock: Int64) -> Bool {
    pairs.isEmpty && overflow == nil && clock >= lastSeen + DomainWatch.day
  }

  // MARK: How many

  mutating func spread(
    _ registrable: String, _ sighting: DomainWatch.Sighting, clock: Int64, allowance: Int,
    seed: UInt64, _ findings: inout [DomainFinding]
  ) {
    if clock >= spreadBegan + DomainWatch.hour {
      spreadBegan = clock
      spreadNames = []
      spreadSketch = nil
      spreadLevel = -1
    }
    guard !spreadNames.contains(registrable) else { return }
    if spreadNames.isEmpty { spreadFirstOffset = sighting.offset }
    if spreadNames.count < Self.exact {
      spreadNames.append(registrable)
    } else {
      if spreadSketch == nil {
        var sketch = DistinctSketch()
        for name in spreadNames { sketch.insert(DistinctSketch.hash(name, seed: seed)) }
        spreadSketch = sketch
      }
      // A sketch that did not change estimates what it did before.
      guard spreadSketch!.insert(DistinctSketch.hash(registrable, seed: seed)) else { return }
    }
    let distinct = spreadSketch?.estimate ?? spreadNames.count
    guard distinct > allowance else { return }
    var level = 0
    var bound = max(allowance, 1) * 10
    while distinct > bound, level < 12 {
      level += 1
      bound *= 10
    }
    // Told again and again as long as they are few, under one key: who knows the bound domains may not have counted some of them.
    guard level > spreadLevel || spreadSketch == nil else { return }
    spreadLevel = level
    findings.append(
      DomainFinding(
        kind: .domainSpread(
          distinctDomains: distinct,
          sample: Array(spreadNames.prefix(spreadSketch == nil ? Self.exact : Self.sample)),
          isExact: spreadSketch == nil),
        license: sighting.license, recordedAt: clock, occurredAt: clock,
        firstOffset: spreadFirstOffset, lastOffset: sighting.offset,
        dedupeKey: Self.key(
          "domain_spread", sighting.license, spreadBegan / DomainWatch.hour, "\(level)")))
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
          license: sighting.license, recordedAt: clock, occurredAt: clock,
          firstOffset: use.firstOffset, lastOffset: sighting.offset,
          dedupeKey: Self.key(
            "canceled_use", sighting.license, clock / DomainWatch.day,
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
