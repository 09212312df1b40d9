import MeteringTestKit
import Testing

extension IntegrationTests {
  /// Dead letters that are sent again although their events, or their places, came again in another
  /// way.
  @Suite struct RequeueTests {
    /// All events are of one minute, however long the test takes.
    private let milliseconds = UsageEventText.now

    private func event(_ id: String, sequence: Int64) -> UsageEventText {
      var event = UsageEventText(id: id, subject: "lic_1")
      event.milliseconds = milliseconds
      event.quantity = 3
      event.producer = "p1"
      event.sequence = sequence
      return event
    }

    /// Sends an event with a key that makes it a dead letter.
    private func sendWrong(_ event: UsageEventText, to log: UsageLog) throws {
      try log.send(key: "lic_2", value: Array(event.json().utf8))
    }

    private func requeue(_ pipeline: Pipeline, _ choice: [String] = ["--all", "--again"]) throws {
      let answer = try Meterctl.run(["dead-letters", "requeue", "--yes"] + choice, pipeline)
      #expect(answer.exit == 0, "\(answer.output)")
      try pipeline.waitUntilCounted()
    }

    private func isSettled(_ pipeline: Pipeline) throws -> Bool {
      try pipeline.database.integer(
        "select count(*) from dead_letter where counted_at is null") == 0
    }

    @Test func `A requeued event that counted under its id in another way does not count again`()
      throws
    {
      let pipeline = try Pipeline(partitions: 1)
      try pipeline.start()
      var traffic = Traffic(pipeline.log)
      try traffic.send(10)
      // The client sent the first event once more by itself, and it was counted.
      try sendWrong(event("again", sequence: 1), to: pipeline.log)
      try pipeline.log.send(event("again", sequence: 2))
      traffic.truth.count(event("again", sequence: 2))
      // The client sent the second event twice, and it was refused twice.
      try sendWrong(event("twice", sequence: 3), to: pipeline.log)
      try sendWrong(event("twice", sequence: 4), to: pipeline.log)
      try pipeline.waitUntilCounted()
      expectNone(try traffic.truth.differences(pipeline.database))

      traffic.truth.count(event("twice", sequence: 3))
      for _ in 0..<2 {
        try requeue(pipeline)
        expectNone(try traffic.truth.differences(pipeline.database))
        #expect(try isSettled(pipeline))
      }
      #expect(
        try pipeline.database.rows(
          "select counted, duplicates, repeated, dead_lettered from producer_ledger where producer = 'p1'"
        )
          == [["1", "0", "0", "3"]])
      try Meterctl.expectReconciled(pipeline)
    }

    /// A log of five records whose first and last ones are dead letters is lost, and the gap is
    /// accepted. The consumer goes on with an empty log.
    private func lostLog() throws -> (Pipeline, ConsumerProcess, UsageTruth) {
      let old = try Pipeline(partitions: 1)
      let first = try old.start()
      var traffic = Traffic(old.log)
      try sendWrong(event("lost-1", sequence: 1), to: old.log)
      try traffic.send(3)
      try sendWrong(event("lost-2", sequence: 2), to: old.log)
      try old.waitUntilCounted()
      try old.expectStops(first)

      let new = try Pipeline(database: old.database, partitions: 1)
      let second = try new.start()
      try second.waitUntilUnavailable("meterctl topics")
      let answer = try Meterctl.run(
        ["topics", "accept-gap", "--partition", "0", "--reason", "test", "--yes"], new)
      #expect(answer.exit == 0, "\(answer.output)")
      return (new, second, traffic.truth)
    }

    private func expectNoDifference(_ pipeline: Pipeline) throws {
      let answer = try Meterctl.run(["reconcile", "--json"], pipeline)
      #expect(answer.exit != 1 && answer.exit != 3, "\(answer.output.suffix(4_000))")
    }

    @Test func `Two dead letters with one place, of a lost log and of the next, both count once`()
      throws
    {
      var (pipeline, _, truth) = try lostLog()
      let other = event("other", sequence: 3)
      try sendWrong(other, to: pipeline.log)
      let valid = event("valid", sequence: 4)
      try pipeline.log.send(valid)
      truth.count(valid)
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))

      truth.count(other)
      truth.count(event("lost-1", sequence: 1))
      let place = ["--topic", UsageLog.topic, "--partition", "0", "--offset", "0"]
      for _ in 0..<2 {
        try requeue(pipeline, place)
        expectNone(try truth.differences(pipeline.database))
      }
      // The other letter of the lost log has an offset that the new log has not reached.
      truth.count(event("lost-2", sequence: 2))
      for _ in 0..<2 {
        try requeue(pipeline)
        expectNone(try truth.differences(pipeline.database))
        #expect(try isSettled(pipeline))
      }
      try expectNoDifference(pipeline)
    }

    @Test func `An event at the offset of a lost dead letter is known when it comes again`() throws
    {
      var (pipeline, aggregator, truth) = try lostLog()
      let valid = event("valid", sequence: 3)
      truth.count(valid)
      try pipeline.log.send(valid)
      try pipeline.waitUntilCounted()
      try pipeline.expectStops(aggregator)
      try pipeline.start()
      try pipeline.log.send(event("valid", sequence: 4))
      try pipeline.waitUntilCounted()
      expectNone(try truth.differences(pipeline.database))
      try expectNoDifference(pipeline)
    }
  }
}
