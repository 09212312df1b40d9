package import Metering

/// Watches one partition's refused validations for stolen keys: applications on foreign domains,
/// one key on many domains, and canceled keys that are still used.
///
/// - Its time is the log's: the largest record timestamp so far. Everybody who reads the same
///   records finds the same, under the same keys.
/// - Its memory is bounded, whatever is sent: `Settings.licenses` licenses with at most `pairs`
///   domains each. Beyond them, two sketches know how many domains there were (`DistinctSketch`)
///   and which were the most frequent (`FrequentNames`).
/// - Domains are given in their registrable form and by their name, both in ASCII and lower case.
///   The caller knows the rules.
package struct DomainWatch: Sendable {
  package struct Settings: Sendable {
    /// How many distinct foreign registrable domains within an hour raise no alert.
    package var allowance = 5
    /// How many licenses are watched at the same time. If there are more, several are compared, and
    /// the one with the fewest sightings leaves.
    package var licenses = 2_048
    package init() {}
  }

  /// Part of every alert. It is raised whenever other things would be found.
  package static let version = 3
  /// The most alerts of one license in an hour. Everything beyond goes into one digest.
  static let alertsPerHour = 10
  /// The number of domains of one license that are kept apart.
  static let pairs = 48
  /// In milliseconds. A pair is reported at most once in this time, and the spread is counted over
  /// it.
  package static let hour: Int64 = 3_600_000
  /// A pair or a license that was not seen for this long counts as new. The use of a canceled
  /// license is reported at most once in this time.
  static let day: Int64 = 86_400_000
  /// A slow leak is counted over this time, and reported at most once in it. It is no slow leak if
  /// all its domains appeared on a few days: that is either a spread within an hour or a move.
  package static let slowSpread = 14 * day
  static let slowSpreadDays = 5
  /// The allowance over that time, as a multiple of the hourly allowance.
  package static let slowAllowances = 2
  /// Digests are looked for at most once in this time, by the log's clock.
  private static let lookInterval: Int64 = 1_000

  let settings: Settings
  var licenses: [Identifier: LicenseSightings] = [:]
  /// The same licenses as a list, so that some can be chosen at random.
  var names: [Identifier] = []
  private var evictions: UInt64 = 0
  /// In milliseconds.
  var clock: Int64 = .min
  /// A state that was just read is looked at immediately.
  private var nextLook: Int64 = .min
  let seed: UInt64

  /// - Parameter seed: the seed for hashing domains that are only counted. It is random, so that
  ///   nobody can choose domains that count as one.
  package init(settings: Settings = Settings(), seed: UInt64) {
    self.settings = settings
    self.seed = seed
  }

  package var licenseCount: Int { licenses.count }

  /// One refused validation.
  package struct Sighting: Sendable {
    package var license: Identifier
    package var offset: Int64
    /// The record's time, followed by the event's own, in milliseconds.
    package var recordedAt: Int64
    package var time: Int64

    package init(license: Identifier, offset: Int64, recordedAt: Int64, time: Int64) {
      self.license = license
      self.offset = offset
      self.recordedAt = recordedAt
      self.time = time
    }
  }

  /// An application asked for a domain that the license is not bound to.
  ///
  /// - Complexity: O(pairs of the license).
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

  /// A suspended or canceled license was used.
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

  /// Advances the log's time and returns the digests that are due.
  ///
  /// - Complexity: O(licenses and their pairs), at most once in a second of the log's time.
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

  /// Chooses several licenses at random and drops the one with the fewest sightings. Invented
  /// licenses are seen once, and real ones again and again.
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

/// A finding, with the places in the log that show it.
package struct DomainFinding: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    /// In milliseconds.
    case domainMismatch(domain: String, count: Int64, firstSeen: Int64)
    /// What no longer fitted into single alerts of an hour.
    case mismatchDigest(
      count: Int64, distinctDomains: Int, mostFrequent: [Frequent], firstSeen: Int64)
    case domainSpread(distinctDomains: Int, sample: [String], isExact: Bool)
    /// The same over `slowSpread` milliseconds and several days: a slow leak.
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
  /// The timestamp of the record that caused it, in milliseconds. A digest has the log's time.
  package var recordedAt: Int64
  package var occurredAt: Int64
  package var firstOffset: Int64
  package var lastOffset: Int64
  /// The key, which is the same whoever finds it.
  package var dedupeKey: String
}
