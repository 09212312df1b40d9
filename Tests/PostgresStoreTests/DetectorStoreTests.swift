import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct DetectorStoreTests {
  private func store(
    _ store: DetectorStore, _ states: [DetectorStore.State], _ epochs: [Int32: Int32]
  ) throws {
    try store.connection.execute("begin")
    try store.append(states, epochs: epochs)
    try store.connection.commit(with: [store.settle(states, epochs: epochs)], operation: "test")
  }

  @Test("A state of any size comes back as it was, and replaces the one before it")
  func states() throws {
    let database = try TestDatabase()
    let detector = DetectorStore(try database.connection(), group: "g", topic: "t")
    #expect(try detector.state(of: 1) == nil)
    let large = (0..<(5 << 19)).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
    try store(
      detector,
      [
        .init(partition: 1, nextOffset: 10, bytes: large),
        .init(partition: 2, nextOffset: 7, bytes: [1, 2]),
        .init(partition: 3, nextOffset: 7, bytes: [3]),
      ], [1: 1, 2: 1])
    let first = try #require(try detector.state(of: 1))
    #expect(first.epoch == 1 && first.nextOffset == 10 && first.bytes == large)
    // A partition that is not in the checkpoint has no state.
    #expect(try detector.state(of: 3) == nil)
    try store(detector, [.init(partition: 1, nextOffset: 20, bytes: [])], [1: 1])
    let second = try #require(try detector.state(of: 1))
    #expect(second.nextOffset == 20 && second.bytes.isEmpty)
    #expect(try detector.state(of: 2)?.bytes == [1, 2])
    #expect(try database.integer("select count(*) from detector_state") == 2)
    // A new epoch begins at a lower offset.
    try store(detector, [.init(partition: 1, nextOffset: 3, bytes: [9])], [1: 2])
    #expect(try detector.state(of: 1)?.bytes == [9])
  }

  @Test("Findings become alerts once, with their deliveries")
  func findings() throws {
    let database = try TestDatabase()
    try database.addLicense("lic_1", domains: ["a.com", "b.com"])
    try database.addLicense("lic_2")
    try database.execute(
      "insert into webhook_endpoint (endpoint_id, customer_id, url) values ('ep', 'cus_test', 'https://example.com/')"
    )
    let connection = try database.connection()
    let findings = """
      [{"license_id":"lic_1","occurred_at":1795459200123,"dedupe_key":"k1","data":{"reason":"burst"},"evidence":{"partition":3}},
       {"license_id":"lic_9","occurred_at":1795459200123,"dedupe_key":"k2","data":{"reason":"burst"},"evidence":{}}]
      """
    for _ in 0..<2 {
      try connection.execute("begin")
      try connection.commit(with: [DetectorStore.raise(findings)], operation: "test")
    }
    #expect(
      try database.rows(
        """
        select license_id, customer_id, data->>'license_id', evidence->>'partition',
          (extract(epoch from occurred_at) * 1000)::bigint from alert order by dedupe_key
        """) == [
          ["lic_1", "cus_test", "lic_1", "3", "1795459200123"],
          ["lic_9", nil, "lic_9", nil, "1795459200123"],
        ])
    #expect(try database.integer("select count(*) from webhook_delivery") == 1)
    let detector = DetectorStore(connection, group: "g", topic: "t")
    #expect(
      try detector.registered(of: ["lic_1", "lic_2", "lic_9"]) == [
        Array("lic_1".utf8): .init(customerID: "cus_test", domains: ["a.com", "b.com"]),
        Array("lic_2".utf8): .init(customerID: "cus_test", domains: []),
      ])
  }
}
