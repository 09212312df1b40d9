import MeteringTestKit
import PostgresStore
import Testing

@Suite struct PartitionHaltStoreTests {
  private func halt(_ partition: Int32, _ reason: String) -> PartitionHaltStore.Halt {
    .init(
      group: "usage-aggregator", topic: "license.usage.v1", partition: partition, reason: reason,
      remedy: "meterctl topics new-epoch")
  }

  @Test func `A halt keeps the time of its beginning until its partition goes on`() throws {
    let database = try TestDatabase()
    let store = PartitionHaltStore(try database.connection())
    try store.record([halt(1, "the log ends at 3"), halt(0, "the log ends at 9")])
    try database.execute("update partition_halt set halted_at = '2026-01-02T03:04:05Z'")
    try store.record([halt(1, "the log ends at 4")])

    let halts = try store.halts()
    #expect(halts.map(\.partition) == [0, 1])
    #expect(halts.map(\.reason) == ["the log ends at 9", "the log ends at 4"])
    #expect(halts.map(\.since) == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"])

    try store.clear(group: "anomaly-detector", topic: "license.usage.v1", partitions: [0, 1])
    try store.clear(group: "usage-aggregator", topic: "license.usage.v1", partitions: [1])
    #expect(try store.halts().map(\.partition) == [0])
  }
}
