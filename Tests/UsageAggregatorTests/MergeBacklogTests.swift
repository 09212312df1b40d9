import Testing

@testable import ServiceRuntime
@testable import UsageAggregator

@Suite struct MergeBacklogTests {
  private let backlog = MergeBacklog(gauge: Gauge())

  @Test func `Small flushes get an index by license, and large ones do not`() {
    #expect(backlog.isByLicense(1))
    #expect(backlog.isByLicense(50_000))
    #expect(!backlog.isByLicense(50_001))
  }

  @Test func `No flush gets an index by license while the consumer is behind`() {
    backlog.isBehind = true
    #expect(!backlog.isByLicense(1))
    backlog.isBehind = false
    #expect(backlog.isByLicense(1))
  }

  @Test func `Rows that another process has merged are forgotten after a merge`() {
    backlog.add(1_000)
    let mark = backlog.allAdded
    // The merge takes 300 of them, and 50 rows come meanwhile.
    backlog.add(-300)
    backlog.add(50)
    #expect(backlog.count == 750)
    backlog.merged(before: mark)
    #expect(backlog.count == 50)
  }

  @Test func `A session that ends keeps the count of what waits`() {
    backlog.ownedPartitions = [0, 1]
    backlog.add(1_000)
    backlog.ownedPartitions = []
    backlog.ownedPartitions = [0, 1]
    #expect(backlog.count == 1_000)
  }

  @Test func `A backlog is over when it is merged, although new rows wait`() {
    backlog.isBehind = true
    backlog.add(300_000)
    backlog.settled()
    #expect(backlog.isSettling)
    backlog.isBehind = false
    #expect(backlog.isSettling)
    backlog.add(-250_000)
    #expect(backlog.isSettling)
    backlog.settled()
    #expect(!backlog.isSettling)
  }

  @Test func `No flush gets an index by license while too many dead rows are kept`() {
    backlog.deadRows = 500_001
    #expect(!backlog.isByLicense(1))
    backlog.deadRows = 0
    #expect(backlog.isByLicense(1))
  }
}
