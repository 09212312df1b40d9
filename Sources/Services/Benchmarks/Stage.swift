import ArgumentParser
import Foundation
import KafkaTransport
import MeteringTestKit

/// An embedded broker with the topics of `topics/`, and the services under measure, built beside this program.
struct Stage {
  let broker: ChildProcess
  let servers: String

  init() throws {
    broker = try ChildProcess(ChildProcess.product("dev-broker"), ["--topics-dir", "topics"])
    guard broker.waitForOutput("\n"), let line = broker.output.split(separator: "\n").first else {
      throw ValidationError("dev-broker did not start: build it first")
    }
    servers = String(line)
  }

  func kafka() throws -> KafkaConfiguration { try KafkaConfiguration(brokers: servers) }

  /// An aggregator that owns its partitions.
  func startAggregator(database: String) throws -> ChildProcess {
    let aggregator = try ChildProcess(
      ChildProcess.product("usage-aggregator"),
      environment: [
        "METER_KAFKA_BROKERS": servers, "METER_DATABASE_URL": database,
        "METER_ADMIN_BIND": "127.0.0.1:0",
      ])
    guard aggregator.waitForOutput("partitions assigned") else {
      throw ValidationError("usage-aggregator did not start:\n\(aggregator.output)")
    }
    return aggregator
  }

  func end() {
    broker.signal(SIGTERM)
    broker.wait()
  }
}

func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
