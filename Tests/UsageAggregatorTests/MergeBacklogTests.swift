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

  @Test func `No flush gets an index by license while too many dead rows are kept`() {
    backlog.deadRows = 500_001
    #expect(!backlog.isByLicense(1))
    backlog.deadRows = 0
    #expect(backlog.isByLicense(1))
  }
}
