import AnomalyDetection
import Metering
import MeteringTestKit
import Testing

/// A labelled set: who uses a license on foreign domains, and whether that is a leak.
struct DomainScenario: CustomTestStringConvertible {
  struct Request {
    var minute: Int
    var domain: String
    var registrable: String
  }

  var name: String
  /// The minute from which the delay counts. It is nil if no spread may be reported.
  var leakBegins: Int?
  var requests: [Request]

  var testDescription: String { name }

  private static func every(
    _ minutes: Int, _ count: Int, from start: Int = 0, _ domain: (Int) -> (String, String)
  ) -> [Request] {
    (0..<count).map { n in
      let (name, registrable) = domain(n)
      return Request(minute: start + n * minutes, domain: name, registrable: registrable)
    }
  }

  static func all(seed: UInt64) -> [DomainScenario] {
    var random = SeededRandom(seed: seed)
    func name() -> String { "d\(random.next() % 1_000_000_000).com" }
    func same() -> (String, String) {
      let domain = name()
      return (domain, domain)
    }
    let day = 1_440
    return [
      DomainScenario(
        name: "fifty subdomains of one registrable domain", leakBegins: nil,
        requests: every(1, 50) { ("s\($0).foreign.com", "foreign.com") }),
      DomainScenario(
        name: "staging hosts of the customer's own domain", leakBegins: nil,
        requests: every(240, 60) { ("staging\($0 % 8).example.com", "example.com") }),
      DomainScenario(
        name: "one name as IDN and as punycode", leakBegins: nil,
        // Both forms arrive in ASCII.
        requests: every(30, 48) { _ in ("xn--mller-kva.de", "xn--mller-kva.de") }),
      DomainScenario(
        name: "a move to a new domain, with three others on the way", leakBegins: nil,
        requests: every(20, 72) { ("new\($0 % 4).com", "new\($0 % 4).com") }),
      DomainScenario(
        name: "a new domain a week", leakBegins: nil,
        requests: every(7 * day, 12) { _ in same() }),
      DomainScenario(
        name: "three previews a day on a host under whose suffix others register", leakBegins: 0,
        requests: every(480, 42) { ("p\($0).pages.dev", "p\($0).pages.dev") }),
      DomainScenario(
        name: "a port scanner that sends three hundred random hosts", leakBegins: 0,
        requests: every(1, 300) { _ in same() }),
      DomainScenario(
        name: "a key on a forum: two hundred domains in an hour", leakBegins: 0,
        requests: (0..<200).map {
          let domain = name()
          return Request(minute: $0 * 60 / 200, domain: domain, registrable: domain)
        }),
      DomainScenario(
        name: "twelve domains in an hour", leakBegins: 0, requests: every(5, 12) { _ in same() }),
      DomainScenario(
        name: "a slow leak: one new domain a day", leakBegins: 0,
        requests: every(day, 30) { _ in same() }),
      DomainScenario(
        name: "a slow leak: two new domains a day, each asking again and again", leakBegins: 0,
        requests: (0..<30).flatMap { n -> [Request] in
          let domain = name()
          return every(180, 40, from: n * day / 2) { _ in (domain, domain) }
        }.sorted { $0.minute < $1.minute }),
    ]
  }
}

@Suite struct DomainScenarioTests {
  private static let start: Int64 = 1_795_459_200_000

  private struct Told {
    var spreads: [Int] = []
    var mismatches = 0
    var firstMismatch: Int?
  }

  private static func run(_ scenario: DomainScenario) -> Told {
    var watch = DomainWatch(seed: 7)
    var told = Told()
    for (offset, request) in scenario.requests.enumerated() {
      let time = start + Int64(request.minute) * 60_000
      // The requests of all other licenses move the log's time on.
      for finding in watch.advance(to: time)
        + watch.foreignDomain(
          request.domain, registrable: request.registrable,
          .init(
            license: Identifier("lic_1"), offset: Int64(offset), recordedAt: time, time: time))
      {
        switch finding.kind {
        case .domainSpread, .slowSpread: told.spreads.append(request.minute)
        case .domainMismatch, .mismatchDigest:
          told.mismatches += 1
          told.firstMismatch = told.firstMismatch ?? request.minute
        case .canceledUse: Issue.record("no license was canceled")
        }
      }
    }
    return told
  }

  @Test(arguments: DomainScenario.all(seed: 1) + DomainScenario.all(seed: 2))
  func `A leak is reported as a spread, and other domains are not`(scenario: DomainScenario) {
    let told = Self.run(scenario)
    #expect(told.firstMismatch == 0, "the first foreign domain is reported immediately")
    #expect(scenario.leakBegins == nil ? told.spreads.isEmpty : !told.spreads.isEmpty)
    if let first = told.spreads.first {
      print("\(scenario.name): after \(first) min, \(told.mismatches) mismatches")
      let slow = scenario.requests[6].minute > 60
      #expect(first <= (slow ? 11 * 1_440 : 60))
    } else {
      print("\(scenario.name): no spread, \(told.mismatches) mismatches")
    }
    // At most ten alerts an hour and a digest.
    let hours = scenario.requests.last!.minute / 60 + 1
    #expect(told.mismatches <= 11 * hours)
  }

  @Test(arguments: [true, false])
  func `A license that has ended is reported at its first request, and daily while requests come`(
    isCanceled: Bool
  ) {
    var watch = DomainWatch(seed: 7)
    var told: [Int] = []
    for minute in stride(from: 0, to: 10 * 1_440, by: 7) {
      let time = Self.start + Int64(minute) * 60_000
      let found = watch.endedLicense(
        isCanceled: isCanceled,
        .init(
          license: Identifier("lic_1"), offset: Int64(minute), recordedAt: time, time: time))
      if !found.isEmpty { told.append(minute) }
    }
    #expect(told.first == 0 && told.count == 10, "\(told)")
  }

  @Test func `A slow leak is remembered across a checkpoint and days of silence`() throws {
    var watch = DomainWatch(seed: 7)
    var spreads = 0
    for n in 0..<12 {
      let time = Self.start + Int64(n) * 86_400_000
      watch = try #require(DomainWatch(settings: .init(), state: watch.state()))
      spreads +=
        watch.foreignDomain(
          "d\(n).com", registrable: "d\(n).com",
          .init(license: Identifier("lic_1"), offset: Int64(n), recordedAt: time, time: time)
        ).filter { if case .slowSpread = $0.kind { true } else { false } }.count
    }
    #expect(spreads == 1)
    #expect(watch.advance(to: Self.start + 40 * 86_400_000).isEmpty && watch.licenseCount == 0)
  }
}
