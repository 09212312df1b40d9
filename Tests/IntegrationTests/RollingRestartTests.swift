import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  @Suite struct RollingRestartTests {
    /// Sends a little to every partition all the time, and keeps the truth.
    private final class Heartbeat: @unchecked Sendable {
      // These are used with the lock held.
      private let lock = NSLock()
      private var isStopped = false
      private var sent: [Int: (at: UInt64, end: Int64)] = [:]
      private let done = DispatchSemaphore(value: 0)
      private(set) var truth = UsageTruth()

      func stop() {
        lock.lock()
        isStopped = true
        lock.unlock()
        done.wait()
      }

      private var goesOn: Bool {
        lock.lock()
        defer { lock.unlock() }
        return !isStopped
      }

      func start(_ log: UsageLog) {
        Thread.detachNewThread { [self] in
          var n = 0
          while goesOn {
            for partition in 0..<log.partitions {
              // Choosing the key's own partition would be more realistic, but would leave some
              // partitions empty.
              var event = UsageEventText(id: "h\(n)", subject: "lic_\(partition)")
              event.domain = "a.example.com"
              truth.count(event)
              // This cannot fail: the queue is never full, and the partition exists.
              try? log.send(event, partition: Int32(partition))
              n += 1
            }
            Thread.sleep(forTimeInterval: 0.02)
          }
          done.signal()
        }
      }
    }

    @Test("No partition stands still for longer than 15 s while the group restarts one by one")
    func rolling() throws {
      let pipeline = try Pipeline(partitions: 6)
      // Sessions are brief, because the mock cluster lets every rebalance last a session less one
      // second, however soon all members have joined again. With our sessions of 6 s, a leave and a
      // join take 20 s. Kafka does not do that.
      var members = [try pipeline.start(), try pipeline.start()]
      for member in members { try member.waitUntilReady() }
      try eventually("shared") {
        members.allSatisfy { ($0.metric("meter_owned_partitions") ?? 0) == 3 }
      }
      let heartbeat = Heartbeat()
      heartbeat.start(pipeline.log)
      var worst = 0.0
      /// How long ago the partition that has stood still longest was last stored.
      func watch() throws {
        let rows = try pipeline.database.rows(
          "select coalesce(max(extract(epoch from clock_timestamp() - updated_at)), 0) from consumer_offset"
        )
        worst = max(worst, rows.first?[0].flatMap { Double($0) } ?? 0)
      }
      try eventually("traffic") {
        try pipeline.database.integer(
          "select count(*) from consumer_offset where next_offset > 10") == 6
      }
      for index in members.indices {
        members[index].process.signal(SIGTERM)
        try eventually("exit", within: 11) {
          try watch()
          return !members[index].process.isRunning
        }
        #expect(members[index].process.wait() == 0)
        members[index] = try pipeline.start()
        try eventually("shared again", within: 40) {
          try watch()
          return members.allSatisfy { ($0.metric("meter_owned_partitions") ?? 0) == 3 }
        }
        // The partitions must also move on after the change.
        let before = try pipeline.log.ends()
        try eventually("all move", within: 20) {
          try watch()
          let next = try pipeline.database.rows(
            "select next_offset from consumer_offset order by partition")
          return zip(next, before).allSatisfy { (Int64($0[0]!) ?? 0) > $1 }
        }
      }
      heartbeat.stop()
      try pipeline.waitUntilCounted()
      expectNone(try heartbeat.truth.differences(pipeline.database))
      print("rolling restart: the longest standstill was \(worst) s")
      #expect(worst < 15)
    }
  }
}
