import Billing
import Foundation
import MeteringTestKit
import Testing

/// `complete_through` may lag, but it never lies and never goes backwards.
@Suite(.serialized)
struct ProgressTests {
  private func completeThrough(_ setup: APISetup) throws -> Int64? {
    try (setup.get("/v1/usage?range=last_24h").json["complete_through"] as? String)
      .flatMap(TimeText.read)
  }

  private func nowOfServer(_ setup: APISetup) throws -> Int64 {
    try #require(
      try setup.database.integer("select (extract(epoch from clock_timestamp()) * 1000)::bigint"))
  }

  private func waitUntilComplete(_ setup: APISetup, after time: Int64) throws {
    try eventually("complete through \(time)", within: 60) {
      try completeThrough(setup).map { $0 > time } ?? false
    }
  }

  @Test func `It passes idle partitions, waits for a stopped aggregator, and stays without Kafka`()
    throws
  {
    let log = try UsageLog(partitions: 4)
    let setup = try APISetup(environment: ["METER_KAFKA_BROKERS": log.brokers])
    let aggregator = try ConsumerProcess(brokers: log.brokers, databaseURL: setup.database.url)
    try aggregator.waitUntilReady()
    try log.send(UsageEventText(id: "1", subject: "lic_1"))
    try log.flush()
    try waitUntilComplete(setup, after: try nowOfServer(setup))
    let counted = try setup.get("/v1/usage?range=last_24h")
    #expect(counted.data.first?["quantity"] as? Int == 1, "\(counted.body)")
    // While nothing comes, it follows the clock.
    try waitUntilComplete(setup, after: try nowOfServer(setup))
    #expect(try setup.get("/v1/status")["lag"] == "0")

    aggregator.process.signal(SIGSTOP)
    let stopped = try nowOfServer(setup)
    try log.send(UsageEventText(id: "2", subject: "lic_1"))
    try log.flush()
    let received = try nowOfServer(setup)
    try eventually("the event waits") { try setup.get("/v1/status")["lag"] == "1" }
    let held = try #require(try completeThrough(setup))
    #expect(held <= received && held > stopped - 60_000)
    aggregator.process.signal(SIGCONT)
    try waitUntilComplete(setup, after: received)
    #expect(try setup.get("/v1/usage?range=last_24h").data.first?["quantity"] as? Int == 2)

    // Another process without Kafka reports the same and takes nothing back.
    let known = try #require(try completeThrough(setup))
    setup.process.killNow()
    var environment = setup.environment
    environment["METER_KAFKA_BROKERS"] = ""
    let alone = try APISetup(environment: environment, databaseURL: setup.database.url)
    #expect(try completeThrough(alone).map { $0 >= known } ?? false)
    let status = try alone.get("/v1/status")
    #expect(status["lag"] == "<null>" && status["kafka"] == "<null>")
  }
}
