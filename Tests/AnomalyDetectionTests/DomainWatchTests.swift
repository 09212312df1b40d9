import AnomalyDetection
import Metering
import MeteringTestKit
import Testing

/// Single sightings, and what is reported about them.
@Suite struct DomainWatchTests {
  private static let start: Int64 = 1_795_459_200_000
  private static let minute: Int64 = 60_000
  private static let hour: Int64 = 60 * minute

  /// A log of one partition, with the watch that reads it.
  private struct Log {
    var watch = DomainWatch(seed: 7)
    var offset: Int64 = 0
    var found: [DomainFinding] = []

    mutating func see(
      _ domain: String, license: String = "lic_1", registrable: String? = nil, at time: Int64
    ) {
      found += watch.foreignDomain(
        domain, registrable: registrable ?? domain, sighting(license, time))
    }

    mutating func end(license: String = "lic_1", isCanceled: Bool = true, at time: Int64) {
      found += watch.endedLicense(isCanceled: isCanceled, sighting(license, time))
    }

    private mutating func sighting(_ license: String, _ time: Int64) -> DomainWatch.Sighting {
      offset += 1
      return DomainWatch.Sighting(
        license: Identifier(license), offset: offset, recordedAt: DomainWatchTests.start + time,
        time: DomainWatchTests.start + time - 5)
    }

    mutating func take() -> [DomainFinding.Kind] {
      defer { found = [] }
      return found.map(\.kind)
    }
  }

  @Test("A pair is reported immediately at first, and then once an hour with its count")
  func pairs() {
    var log = Log()
    log.see("a.com", at: 0)
    #expect(
      log.take() == [.domainMismatch(domain: "a.com", count: 1, firstSeen: Self.start - 5)])
    for second in 1..<3_600 { log.see("a.com", at: Int64(second) * 1_000) }
    #expect(log.take() == [])
    log.see("b.com", at: 30 * Self.minute)
    #expect(log.take().count == 1)
    log.see("a.com", at: Self.hour)
    #expect(
      log.take() == [.domainMismatch(domain: "a.com", count: 3_599, firstSeen: Self.start - 5)])
    // The same domain on another license is another pair.
    log.see("a.com", license: "lic_2", at: Self.hour)
    #expect(log.take().count == 1)
  }

  @Test("The count of an hour is reported at its end, even if the pair has been quiet since")
  func digestOfAPair() {
    var log = Log()
    log.see("a.com", at: 0)
    log.see("a.com", at: 1_000)
    log.see("a.com", at: 2_000)
    _ = log.take()
    log.found += log.watch.advance(to: Self.start + Self.hour - 1)
    #expect(log.take() == [])
    log.found += log.watch.advance(to: Self.start + Self.hour + 2_000)
    #expect(
      log.take() == [.domainMismatch(domain: "a.com", count: 2, firstSeen: Self.start - 5)])
    log.found += log.watch.advance(to: Self.start + 10 * Self.hour)
    #expect(log.take() == [])
    // A day later it is new again, though the license is still remembered for slow leaks.
    log.found += log.watch.advance(to: Self.start + 30 * Self.hour)
    #expect(log.watch.licenseCount == 1)
    log.see("a.com", at: 31 * Self.hour)
    #expect(log.take().count == 1)
  }

  @Test("A license has at most ten alerts an hour, and then one digest of all the others")
  func atMostTen() {
    var log = Log()
    for n in 0..<1_000 { log.see("d\(n).com", registrable: "same.com", at: Int64(n) * 100) }
    let told = log.take()
    #expect(told.count == 10)
    log.found += log.watch.advance(to: Self.start + Self.hour + 1_000)
    let digests = log.take()
    guard digests.count == 1,
      case .mismatchDigest(990, let distinct, let frequent, _) = digests[0]
    else {
      Issue.record("\(digests)")
      return
    }
    #expect((900...1_080).contains(distinct) && frequent.count == 10)
  }

  @Test("A domain among random domains is first in the digest, with its number of requests")
  func pirateBehindNoise() throws {
    var log = Log()
    var random = SeededRandom(seed: 25)
    // First there are 25 domains, then the pirate among as many random ones as its own requests.
    for n in 0..<25 { log.see("noise\(n).com", registrable: "n.com", at: Int64(n)) }
    for n in 0..<400 {
      log.see("pirate.com", registrable: "n.com", at: 100 + Int64(n) * 1_000)
      log.see("r\(random.next()).com", registrable: "n.com", at: 101 + Int64(n) * 1_000)
      if n % 50 == 0 {
        log.watch = try #require(DomainWatch(settings: .init(), state: log.watch.state()))
      }
    }
    #expect(log.take().count == 10)
    log.found += log.watch.advance(to: Self.start + Self.hour + 1_000)
    guard case .mismatchDigest(815, _, let frequent, _) = try #require(log.take().first) else {
      Issue.record("no digest of the other 815")
      return
    }
    #expect(frequent[0].domain == "pirate.com" && (370...400).contains(frequent[0].count))
    #expect(frequent.dropFirst().allSatisfy { $0.count < 5 })
  }

  @Test(
    "More registrable domains than the license's allowance are a spread, reported again when it has grown tenfold"
  )
  func spread() {
    var log = Log()
    for n in 0..<5 { log.see("d\(n).com", at: Int64(n) * Self.minute) }
    // Names below one registrable domain count as one.
    log.see("x.d0.com", registrable: "d0.com", at: 5 * Self.minute)
    func spreads(_ kinds: [DomainFinding.Kind]) -> [(count: Int, isExact: Bool)] {
      kinds.compactMap {
        guard case .domainSpread(let count, _, let isExact) = $0 else { return nil }
        return (count, isExact)
      }
    }
    #expect(spreads(log.take()).isEmpty)
    log.see("d5.com", at: 6 * Self.minute)
    #expect(spreads(log.take()).map(\.count) == [6])
    for n in 6..<5_000 { log.see("d\(n).com", at: 7 * Self.minute + Int64(n)) }
    let found = log.found.filter {
      if case .domainSpread = $0.kind { return true } else { return false }
    }
    // While there are few domains, the key stays the one that was reported already.
    #expect(Set(found.map(\.dedupeKey)).count == 3)
    let estimates = spreads(log.take()).filter { !$0.isExact }.map(\.count)
    #expect(estimates.count == 2 && (50...70).contains(estimates[0]))
    #expect((500...700).contains(estimates[1]))
    // An hour later the count begins again.
    for n in 0..<5 { log.see("e\(n).com", at: 2 * Self.hour + Int64(n)) }
    #expect(spreads(log.take()).isEmpty)
  }

  @Test(
    "The hour of a spread goes with each domain: nine within minutes are reported wherever a clock's hour begins"
  )
  func slidingSpread() {
    var log = Log()
    log.see("d0.com", at: 0)
    for n in 1..<5 { log.see("d\(n).com", at: 58 * Self.minute + Int64(n)) }
    log.found = []
    log.see("d5.com", at: 61 * Self.minute)
    log.see("d6.com", at: 61 * Self.minute + 1)
    let spreads = log.take().compactMap {
      if case .domainSpread(let count, _, _) = $0 { return count } else { return nil }
    }
    #expect(spreads == [6])
  }

  @Test(
    "A flood does not push out those that come again: three hundred real licenses keep their counts"
  )
  func floodKeeps() {
    var log = Log()
    var random = SeededRandom(seed: 8)
    func realOnes(_ time: Int64) {
      for n in 0..<300 { log.see("pirate.com", license: "real_\(n)", at: time) }
    }
    for n in 0..<3 { realOnes(Int64(n)) }
    for n in 0..<20_000 {
      log.see("x.com", license: "made_up_\(random.next())", at: 10 + Int64(n))
    }
    realOnes(30_000)
    log.found += log.watch.advance(to: Self.start + Self.hour + 40_000)
    let told = log.found.filter { $0.license.hasPrefix("real_") }
    // Each pair is reported immediately, and after an hour with the three that came since.
    #expect(told.count == 600)
    #expect(
      told.filter {
        $0.kind == .domainMismatch(domain: "pirate.com", count: 3, firstSeen: Self.start - 5)
      }
      .count == 300)
  }

  @Test("The keys do not depend on when one looks, so that a second reading is recognized by them")
  func keysOfTheLog() {
    var random = SeededRandom(seed: 12)
    var one = Log()
    var other = Log()
    for n in 0..<3_000 {
      let domain = "d\(random.next() % 40).com"
      let license = "lic_\(random.next() % 4)"
      let time = Int64(n) * 11_000
      one.see(domain, license: license, at: time)
      // The other one is looked at with every record, and in other places.
      other.found += other.watch.advance(to: Self.start + time - Int64(random.next() % 9_000))
      other.see(domain, license: license, at: time)
    }
    #expect(Set(one.found.map(\.dedupeKey)) == Set(other.found.map(\.dedupeKey)))
    #expect(one.found.count > 100)
  }

  @Test("An allowance beyond the exact count is judged by the estimate")
  func largeAllowance() {
    var settings = DomainWatch.Settings()
    settings.allowance = 50
    var watch = DomainWatch(settings: settings, seed: 3)
    var spreads: [(at: Int, count: Int)] = []
    for n in 0..<400 {
      let found = watch.foreignDomain(
        "d\(n).com", registrable: "d\(n).com",
        .init(license: "lic", offset: Int64(n), recordedAt: Self.start + Int64(n), time: Self.start)
      )
      for finding in found {
        if case .domainSpread(let count, _, _) = finding.kind { spreads.append((n, count)) }
      }
    }
    #expect(
      spreads.count == 1 && (51...58).contains(spreads[0].count)
        && (44...60).contains(spreads[0].at))
  }

  @Test("A canceled license in use is reported immediately, and then daily with its count")
  func ended() {
    var log = Log()
    for n in 0..<100 { log.end(at: Int64(n) * Self.minute) }
    #expect(
      log.take() == [.canceledUse(isCanceled: true, count: 1, firstSeen: Self.start - 5)])
    log.end(at: 24 * Self.hour)
    #expect(
      log.take() == [.canceledUse(isCanceled: true, count: 100, firstSeen: Self.start - 5)])
    log.end(isCanceled: false, at: 25 * Self.hour)
    #expect(log.take().count == 1)
  }

  @Test(
    "Millions of made-up licenses and domains cost bounded memory, and real ones are reported once")
  func flood() {
    var log = Log()
    var random = SeededRandom(seed: 5)
    var real: [String] = []
    var keys: Set<String> = []
    for n in 0..<30_000 {
      let time = Int64(n) * 60
      log.see(
        "d\(random.next() % 1_000_000).com", license: "lic_\(random.next())", at: time)
      if n % 50 == 0 {
        log.see("pirate\(n % 7).com", license: "real_\(n % 3)", at: time)
      }
      for finding in log.found where finding.license.hasPrefix("real_") {
        if case .domainMismatch(let domain, _, _) = finding.kind {
          real.append("\(finding.license) \(domain)")
          keys.insert(finding.dedupeKey)
        }
      }
      log.found = []
    }
    #expect(log.watch.licenseCount <= 2_048)
    #expect(Set(real).count == 21)
    #expect(keys.count == 21 && real.count == 21)
    #expect(log.watch.state().count < 2 << 20)
  }

  @Test("A watch that continues from a stored state finds what the first one would have found")
  func restored() throws {
    var random = SeededRandom(seed: 11)
    var log = Log()
    for n in 0..<4_000 {
      if n % 97 == 0 {
        let state = log.watch.state()
        log.watch = try #require(DomainWatch(settings: .init(), state: state))
      }
      log.see(
        "d\(random.next() % 60).com", license: "lic_\(random.next() % 5)", at: Int64(n) * 9_000)
      if n % 10 == 0 { log.end(license: "lic_\(random.next() % 3)", at: Int64(n) * 9_000) }
    }
    random = SeededRandom(seed: 11)
    var whole = Log()
    for n in 0..<4_000 {
      whole.see(
        "d\(random.next() % 60).com", license: "lic_\(random.next() % 5)", at: Int64(n) * 9_000)
      if n % 10 == 0 { whole.end(license: "lic_\(random.next() % 3)", at: Int64(n) * 9_000) }
    }
    #expect(log.found == whole.found && log.found.count > 100)
  }

  @Test("A state that was cut or changed is refused or read, and never traps")
  func malformed() throws {
    var log = Log()
    for n in 0..<30 { log.see("d\(n).com", license: "lic_\(n % 2)", at: Int64(n) * Self.minute) }
    log.end(at: Self.hour)
    let state = log.watch.state()
    #expect(DomainWatch(settings: .init(), state: state) != nil)
    for count in 0..<state.count {
      #expect(DomainWatch(settings: .init(), state: Array(state[..<count])) == nil)
    }
    for place in state.indices {
      var changed = state
      changed[place] ^= 0xFF
      _ = DomainWatch(settings: .init(), state: changed)
    }
  }

  @Test func `Licenses that are spelled alike are watched apart`() throws {
    var log = Log()
    log.see("a.com", license: "K", at: 0)
    log.see("a.com", license: "\u{212A}", at: 1)
    #expect(log.take().count == 2 && log.watch.licenseCount == 2)
    // After a restart they are still two.
    let restored = try #require(DomainWatch(settings: .init(), state: log.watch.state()))
    #expect(restored.licenseCount == 2)
  }
}
