import DomainNames
import Foundation
import Logging
import Metering
import MeteringTestKit
import ServiceRuntime
import Synchronization
import Testing

@testable import ValidationService

/// What is known, what is known not to exist, and how much of it is kept.
@Suite(.serialized)
struct DirectoryTests {
  /// Acts as the loader: it takes the wanted keys as soon as there are some.
  private func take(_ rows: ReadThrough<String, Int>) throws -> [String] {
    try eventually("something is wanted") {
      let keys = rows.take(1_000)
      return keys.isEmpty ? nil : keys.sorted()
    }
  }

  @Test("A key that does not exist is looked up once, until a change of it is reported")
  func absentKeys() async throws {
    let rows = ReadThrough<String, Int>(capacity: 1_000, absentMilliseconds: 600_000) {}
    async let first = rows.lookup("a")
    #expect(try take(rows) == ["a"])
    rows.fulfill(["a"], with: [:])
    guard case .missing = await first, case .missing? = rows.cached("a"),
      case .missing = await rows.lookup("a")
    else {
      Issue.record("it is not known to be missing")
      return
    }
    #expect(rows.take(1_000).isEmpty)
    // The row was created in the meantime.
    rows.changed("a")
    #expect(rows.cached("a") == nil)
    async let second = rows.lookup("a")
    #expect(try take(rows) == ["a"])
    rows.fulfill(["a"], with: ["a": 1])
    guard case .found(1) = await second, case .found(1)? = rows.cached("a") else {
      Issue.record("it is not found")
      return
    }
  }

  @Test("A key that does not exist is looked up again after its time is over")
  func absentKeysAge() async throws {
    let rows = ReadThrough<String, Int>(capacity: 1_000, absentMilliseconds: 0) {}
    async let first = rows.lookup("a")
    #expect(try take(rows) == ["a"])
    rows.fulfill(["a"], with: [:])
    guard case .missing = await first else {
      Issue.record("it is not known to be missing")
      return
    }
    #expect(rows.cached("a") == nil)
  }

  @Test func `A key that PostgreSQL cannot take affects only those who asked for it`()
    async throws
  {
    let rows = ReadThrough<Identifier, Int>(capacity: 1_000, absentMilliseconds: 600_000) {}
    async let bad = rows.lookup("a\0")
    async let good = rows.lookup("a")
    var keys: [Identifier] = []
    try eventually("both are wanted") {
      keys += rows.take(1_000)
      return keys.count == 2
    }
    rows.refuse("a\0")
    rows.fulfill(["a"], with: ["a": 1])
    guard case .unavailable = await bad, case .found(1) = await good else {
      Issue.record("the two are not distinguished")
      return
    }
    #expect(rows.cached("a\0") == nil)
  }

  @Test func `The database's refusal of one license leaves all others as they are`() async throws {
    let database = TestDatabase(url: try SharedPostgres.makeDatabase())
    try database.execute(
      """
      insert into customer values ('c', 'C');
      insert into license (license_id, customer_id, plan, domains, issued_at, expires_at)
      select 'lic_' || n, 'c', 'p', '{example.com}', now(), now() + interval '9 days'
      from generate_series(1, 20) n
      """)
    let health = HealthState()
    let directory = LicenseDirectory(
      databaseURL: database.url, capacity: 1_000, rules: try #require(PublicSuffixList.shared),
      health: health, logger: Logger(label: "test"))
    let running = Task { try await directory.run() }
    // What is asked for does not depend on whether PostgreSQL has been reached.
    for _ in 0..<3 {
      await withTaskGroup(of: Void.self) { group in
        for n in 1...20 {
          group.addTask { _ = await directory.licenses.lookup(Identifier("bad_\(n)\0")) }
          group.addTask {
            // On a slow machine, PostgreSQL may be reached only after the waiting lookup has given
            // up.
            for _ in 0..<20 {
              if case .found = await directory.licenses.lookup(Identifier("lic_\(n)")) { return }
            }
            Issue.record("lic_\(n) is not found")
          }
        }
      }
    }
    #expect(!health.json().body.contains("degraded"), "\(health.json().body)")
    running.cancel()
    _ = await running.result
  }

  @Test("However many keys are asked for, a limited number is kept, and keys in use stay")
  func bounded() {
    var cache = BoundedCache<Int, Int>(capacity: 1_000)
    cache.set(-1, -1)
    for key in 0..<100_000 {
      cache.set(key, key)
      #expect(cache.value(-1) == -1)
    }
    #expect(cache.keys.count == 1_000)
  }

  @Test("Tens of thousands of invented license ids take no memory, and known ones are answered")
  func inventedLicenses() throws {
    let setup = try Setup(environment: [
      "METER_LICENSE_CACHE": "1000", "METER_UNKNOWN_RATE_LIMIT": "1000000",
      "METER_UNKNOWN_RATE_LIMIT_BURST": "1000000",
    ])
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    let connections = 64
    let perConnection = 300
    let rounds = 2
    let failures = Atomic<Int>(0)
    let port = setup.port
    @Sendable func ask(_ round: Int, over connection: Int) {
      guard let socket = TCP.connect(port: port, timeoutSeconds: 60) else {
        failures.add(1, ordering: .relaxed)
        return
      }
      defer { close(socket) }
      let group = 100
      for start in stride(from: 0, to: perConnection, by: group) {
        var requests: [UInt8] = []
        for i in start..<start + group {
          requests += ListenerTests.post("lic_\(round)_\(connection)_\(i)")
        }
        guard TCP.write(socket, requests) else {
          failures.add(1, ordering: .relaxed)
          return
        }
        // Each answer opens two objects: itself and its limits.
        var opened = 0
        while opened < 2 * group, let more = TCP.read(socket, atMost: 65_536) {
          opened += more.count { $0 == UInt8(ascii: "{") }
        }
      }
    }
    // A thread for each connection: the answers of one connection wait for one lookup each, and
    // the lookups of all connections are read together.
    func ask(_ round: Int) {
      let asked = DispatchGroup()
      for connection in 0..<connections {
        asked.enter()
        Thread.detachNewThread {
          ask(round, over: connection)
          asked.leave()
        }
      }
      asked.wait()
    }
    ask(0)
    let memory = try setup.memory("RssAnon")
    for round in 1...rounds { ask(round) }
    let total = (rounds + 1) * connections * perConnection
    #expect(failures.load(ordering: .relaxed) == 0)
    #expect(setup.metric(#"meter_validations_total{code="not_found"}"#) == total)
    let growth = try setup.memory("RssAnon") - memory
    print("\(total) invented licenses: \(memory >> 20) MiB after a third, \(growth >> 20) MiB more")
    #expect(growth < 48 << 20)
    #expect(try setup.validate("lic_1")["code"] == "valid")
  }

  @Test
  func `A key that nobody waits for is not looked up, and reads that fail leave no keys`()
    async throws
  {
    let rows = ReadThrough<String, Int>(
      capacity: 1_000, absentMilliseconds: 600_000, waitMilliseconds: 0
    ) {}
    async let known = rows.lookup("known")
    #expect(try take(rows) == ["known"])
    rows.fulfill(["known"], with: ["known": 1])
    _ = await known
    // The loader hangs, and the waiting ends.
    await withTaskGroup(of: Void.self) { group in
      for i in 0..<100 { group.addTask { _ = await rows.lookup("invented-\(i)") } }
      while rows.wantedCount < 100 { await Task.yield() }
      rows.changed("known")
      while rows.wantedCount > 1 {
        rows.expireWaiters()
        await Task.yield()
      }
    }
    #expect(rows.take(1_000) == ["known"])
    // Reads fail. Only what is in memory is read again.
    async let other = rows.lookup("other")
    while rows.wantedCount < 1 { await Task.yield() }
    rows.fail(["known"])
    guard case .unavailable = await other else {
      Issue.record("it is not unavailable")
      return
    }
    rows.recover()
    #expect(rows.take(1_000) == ["known"])
  }
}
