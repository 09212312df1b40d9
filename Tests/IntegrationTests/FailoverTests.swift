import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// A database that forgets commits while the services run.
  @Suite struct FailoverTests {
    @Test func `What a failover forgot is counted again, also where no further event comes`() throws
    {
      let postgres = try PrivatePostgres()
      let pipeline = try Pipeline(database: TestDatabase(url: postgres.makeDatabase()))
      let aggregator = try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(50)
      try pipeline.waitUntilCounted()

      try postgres.keepCopy()
      try awaitDatabase(pipeline)
      try traffic.send(20)
      try pipeline.waitUntilCounted()
      try postgres.goBack()
      try awaitDatabase(pipeline)

      try eventually("the forgotten events; \(aggregator.process.output)", within: 90) {
        try traffic.truth.differences(pipeline.database).isEmpty
      }
      try pipeline.expectStops(aggregator)
      expectNone(try traffic.truth.differences(pipeline.database))
      try Meterctl.expectReconciled(pipeline)
    }

    /// The test's own connection ended with the server.
    private func awaitDatabase(_ pipeline: Pipeline) throws {
      try eventually("the database") { (try? pipeline.database.integer("select 1")) == 1 }
    }
  }
}
