import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import ServiceRuntime
import Testing

@testable import MeteringAPI

/// One customer, or one stranger, does not hold up all others.
@Suite(.serialized)
struct FairnessTests {
  private let one: Identifier = "cus_1"

  @Test func `Jobs beyond a customer's share wait behind those of others`() {
    var queue = FairQueue<Int>(limit: 8, share: 2)
    let hasBegun = [queue.begin(one), queue.begin(one), queue.begin(one), queue.begin(nil)]
    #expect(hasBegun == [true, true, false, true])
    for (job, owner) in [(1, one), (2, "cus_2"), (3, one), (4, nil)] as [(Int, Identifier?)] {
      let isTaken = queue.append(job, of: owner)
      #expect(isTaken)
    }
    var order = [queue.next(), queue.next(), queue.next()]
    #expect(order == [2, 4, nil])
    queue.finish(one)
    order = [queue.next(), queue.next()]
    #expect(order == [1, nil])
    queue.finish(one)
    order = [queue.next(), queue.next()]
    #expect(order == [3, nil])
  }

  @Test func `One customer fills half of the room for waiting jobs at most`() {
    var queue = FairQueue<Int>(limit: 4, share: 1)
    let owners: [Identifier?] = [one, one, one, nil, "cus_2", nil]
    let taken = owners.enumerated().map { queue.append($0.offset, of: $0.element) }
    #expect(taken == [true, true, false, true, true, false])
    var order = [queue.next(), queue.next(), queue.next(), queue.next()]
    #expect(order == [0, 3, 4, nil])
    queue.finish(one)
    order = [queue.next(), queue.next()]
    #expect(order == [1, nil])
  }

  @Test func `A customer has one place, and all customers leave one to the vendor`() {
    let places = Places(most: 3, ofCustomers: 2, ofOne: 1)
    var held = [places.take(for: one), places.take(for: "cus_2")]
    #expect(held.allSatisfy { $0 != nil })
    #expect(places.take(for: one) == nil && places.take(for: "cus_3") == nil)
    held.append(places.take(for: nil))
    #expect(held.last != nil && places.take(for: nil) == nil)
    held.removeFirst()
    held.append(places.take(for: "cus_3"))
    #expect(held.last != nil && places.take(for: one) == nil)
    held = []
    #expect(places.take(for: one) != nil)
  }

  @Test func `A snapshot ends with its time, and its thread serves the next one`() async throws {
    let pool = DatabasePool(
      url: try SharedPostgres.makeDatabase(), health: HealthState(), metrics: MetricsRegistry(),
      snapshotLimit: .milliseconds(50))
    for _ in 0..<6 {
      let place = try pool.snapshotPlace(for: nil)
      await #expect(throws: DatabaseUnavailable.self) {
        try await pool.snapshot(place) { snapshot -> Void in
          while true { try await snapshot.read { try $0.probe() } }
        }
      }
    }
  }

  @Test func `A customer's slow reads leave threads to others, and nobody's delay who may enter`()
    throws
  {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    try setup.addToken("mtr_c1", scopes: "licenses:read", customer: "cus_1")
    #expect(try setup.get("/v1/licenses", token: "mtr_c1").status == 200)
    let lock = try PostgresConnection(url: setup.database.url, application: "test")
    try lock.execute("begin")
    try lock.execute("lock table license")
    func waiting() throws -> Int64? {
      try setup.database.integer(
        """
        select count(*) from pg_stat_activity where datname = current_database()
          and application_name = 'metering-api-read' and wait_event_type = 'Lock'
        """)
    }
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    func ask(_ token: String, times: Int) throws {
      for _ in 0..<times {
        let socket = try #require(TCP.connect(port: setup.port, timeoutSeconds: 30))
        sockets.append(socket)
        let head = "GET /v1/licenses HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        _ = TCP.write(socket, Array((head + "Authorization: Bearer \(token)\r\n\r\n").utf8))
      }
    }
    try ask("mtr_c1", times: 10)
    try eventually("the customer has its share") { try waiting() == 4 }
    #expect(try setup.get("/v1/audit").status == 200)
    try ask(APISetup.adminToken, times: 6)
    try eventually("all threads wait") { try waiting() == 8 }
    #expect(try setup.get("/v1/audit", token: "mtr_unknown").status == 401)
    try lock.execute("commit")
    for socket in sockets {
      var bytes: [UInt8] = []
      while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
      #expect(APISetup.parse(bytes)?.status == 200)
    }
  }

  @Test func `A stranger's sign-in, link and sign-out take no place among the writes`() throws {
    let setup = try APISetup()
    let lock = try PostgresConnection(url: setup.database.url, application: "test")
    try lock.execute("begin")
    try lock.execute("lock table page_session, portal_session in share mode")
    let stranger = PageReader(api: setup)
    #expect(try stranger.send("/sign-in", ["token": "mtr_unknown"]).status == 401)
    #expect(try stranger.get("/portal?link=unknown").status == 401)
    for (path, cookie) in [("/sign-out", "meter_session"), ("/portal/sign-out", "meter_portal")] {
      let answer = try PageReader(api: setup, cookie: cookie + "=invented").send(path, [:])
      #expect(answer.status == 303, "\(path): \(answer.body)")
    }
    try lock.execute("rollback")
  }
}
