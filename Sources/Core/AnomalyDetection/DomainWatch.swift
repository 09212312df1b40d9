package import Metering

/// Watches one partition's refused validations for stolen keys: applications on foreign domains, a key on many of them, a key that was
/// canceled and goes on.
///
/// - Time is the log's: the largest record timestamp so far. So whoever reads the same records finds the same, under the same keys.
/// - Memory is bounded whatever is sent: `Settings.licenses` licenses, of each at most `pairs` domains. Beyond them two
///   sketches say how many domains there were (`DistinctSketch`) and which were the most frequent (`FrequentNames`).
/// - Domains come as their registrable form and their name, both in ASCII, lower case; who calls knows the rules.
package struct DomainWatch: Sendable {
  package struct Settings: Sendable {
    /// Distinct foreign registrable domains within an hour that are no alert yet.
    package var allowance = 5
    /// How many licenses are watched at a time. When there are more, several are looked at, and the
    /// one with the fewest sightings leaves.
    package var licenses = 2_048
    package init() {}
  }

  /// Told with every alert; raised whenever other things would be found.
  package static let version = 3
  /// Alerts of one license in an hour; what comes beyond goes into one digest.
  static let alertsPerHour = 10
  /// Domains of one license that are told apart.
  static let pairs = 48
  /// Milliseconds. A pair is told again at most so often; the spread is counted over as long.
  package static let hour: Int64 = 3_600_000
  /// A pair, or a license, that was not seen for so long is new again. A canceled license is told of as often.
  static let day: Int64 = 86_400_000
  /// A slow leak is counted over so long, and told as often. It is none where all its domains came on few days: that is what the
  /// spread of an hour is for, or a move.
  package static let slowSpread = 14 * day
  static let slowSpreadDays = 5
  /// What is allowed over that time, in allowances of an hour.
  package static let slowAllowances = 2
  /// Digests are looked for at most so often, in the log's time.
  private static let lookInterval: Int64 = 1_000

  let settings: Settings
  var licenses: [Identifier: LicenseSightings] = [:]
  /// The same licenses, to choose some of them at random.
  var names: [Identifier] = []
  private var evictions: UInt64 = 0
  /// Milliseconds.
  var clock: Int64 = .min
  /// A state that was read back is looked at immediately.
  private var nextLook: Int64 = .min
  let seed: UInt64

  /// - Parameter seed: hashes the domains that are only counted; random, so that nobody can choose domains that count as one.
  package init(settings: Settings = Settings(), seed: UInt64) {
    self.settings = settings
    self.seed = seed
  }

  package var licenseCount: Int { licenses.count }

  /// One refused validation.
  package struct Sighting: Sendable {
    package var license: Identifier
    package var offset: Int64
    /// The record's and the event's own time, milliseconds.
    package var recordedAt: Int64
    package var time: Int64

    package init(license: Identifier, offset: Int64, recordedAt: Int64, time: Int64) {
      self.license = license
      self.offset = offset
      self.recordedAt = recordedAt
      self.time = time
    }
  }

  /// An application asked for a domain that the license is not bound to. O(pairs of the license).
  package mutating func foreignDomain(
    _ domain: String, registrable: String, _ sighting: Sighting
  ) -> [DomainFinding] {
    var findings = advance(to: sighting.recordedAt)
    let (clock, seed, allowance) = (self.clock, self.seed, settings.allowance)
    withLicense(sighting.license, &findings) { license, findings in
      license.spread(
        registrable, sighting, clock: clock, allowance: allowance, seed: seed, &findings)
      license.slowSpread(registrable, sighting, clock: clock, allowance: allowance, &findings)
      license.mismatch(domain, sighting, clock: clock, seed: seed, &findings)
    }
    return findings
  }

  /// A license that is suspended or canceled was asked for.
  package mutating func endedLicense(
    isCanceled: Bool, _ sighting: Sighting
  ) -> [DomainFinding] {
    var findings = advance(to: sighting.recordedAt)
    let clock = self.clock
    withLicense(sighting.license, &findings) { license, findings in
      license.ended(isCanceled: isCanceled, sighting, clock: clock, &findings)
    }
    return findings
  }

  /// The log has come to this time: digests that are due. O(licenses and their pairs), at most once a second of the log's time.
  package mutating func advance(to time: Int64) -> [DomainFinding] {
    clock = max(clock, time)
    guard clock >= nextLook else { return [] }
    nextLook = clock + Self.lookInterval
    var findings: [DomainFinding] = []
    for name in licenses.filter({ clock >= $0.value.nextDue }).keys.sorted() {
      licenses[name]!.catchUp(name.string, to: clock, &findings)
      licenses[name]!.nextDue = licenses[name]!.planNext()
      if licenses[name]!.isForgotten(clock) { forget(name) }
    }
    return findings
  }

  private mutating func withLicense(
    _ name: Identifier, _ findings: inout [DomainFinding],
    _ body: (inout LicenseSightings, inout [DomainFinding]) -> Void
  ) {
    if licenses[name] == nil {
      if names.count >= settings.licenses { evict() }
      var license = LicenseSightings(clock: clock)
      license.place = names.count
      names.append(name)
      licenses[name] = license
    }
    func update(_ license: inout LicenseSightings) {
      license.catchUp(name.string, to: clock, &findings)
      license.sightings += 1
      license.lastSeen = clock
      body(&license, &findings)
      license.nextDue = license.planNext()
    }
    update(&licenses[name]!)
  }

  private mutating func forget(_ name: Identifier) {
    guard let place = licenses.removeValue(forKey: name)?.place else { return }
    let last = names.removeLast()
    guard last != name else { return }
    names[place] = last
    licenses[last]!.place = place
  }

  /// Several are chosen at random, and the one with the fewest sightings leaves. Made-up licenses
  /// come once, and real ones come again and again.
  private mutating func evict() {
    var least: (name: Identifier, sightings: Int64, lastSeen: Int64)?
    for _ in 0..<16 {
      evictions &+= 1
      let name = names[Int(DistinctSketch.mixed(evictions ^ seed) % UInt64(names.count))]
      let license = licenses[name]!
      if least == nil || (license.sightings, license.lastSeen) < (least!.sightings, least!.lastSeen)
      {
        least = (name, license.sightings, license.lastSeen)
      }
    }
    if let least { forget(least.name) }
  }
}

/// What was found, with the places in the log that show it.
package struct DomainFinding: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// Milliseconds.
    case domainMismatch(domain: String, count: Int64, firstSeen: Int64)
    /// What no longer fitted into single alerts of an hour.
    case mismatchDigest(
      count: Int64, distinctDomains: Int, mostFrequent: [Frequent], firstSeen: Int64)
    case domainSpread(distinctDomains: Int, sample: [String], isExact: Bool)
    /// The same over `slowSpread` milliseconds, on several days: what leaks slowly.
    case slowSpread(distinctDomains: Int, sample: [String])
    case canceledUse(isCanceled: Bool, count: Int64, firstSeen: Int64)
  }

  /// A domain, and how often it was asked for at least.
  package struct Frequent: Sendable, Equatable {
    package var domain: String
    package var count: Int64

    package init(domain: String, count: Int64) {
      self.domain = domain
      self.count = count
    }
  }

  package var kind: Kind
  package var license: String
  /// The timestamp of the record that made it, in milliseconds. A digest has the log's time.
  package var recordedAt: Int64
  package var occurredAt: Int64
  package var firstOffset: Int64
  package var lastOffset: Int64
  /// The same whoever finds it.
  package var dedupeKey: String
}
