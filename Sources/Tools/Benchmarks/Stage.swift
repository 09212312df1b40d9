import ArgumentParser
import Foundation
import KafkaTransport
import MeteringTestKit
import PostgresStore
import WebhookDelivery

/// An embedded broker with the topics of `topics/`, and the measured services, which are built
/// beside this program.
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

  /// A detector that owns its partitions of both topics.
  func startDetector(
    database: String, environment: [String: String] = [:]
  ) throws -> ChildProcess {
    let detector = try ChildProcess(
      ChildProcess.product("anomaly-detector"),
      environment: [
        "METER_KAFKA_BROKERS": servers, "METER_DATABASE_URL": database,
        "METER_ADMIN_BIND": "127.0.0.1:0",
      ].merging(environment) { $1 })
    try eventually("anomaly-detector owns its partitions", within: 60) {
      detector.output.split(separator: "\n").count { $0.contains("partitions assigned") } >= 2
    }
    return detector
  }

  /// The key that seals and opens secrets in benchmarks.
  static let encryptionKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

  /// A dispatcher that may send to this machine.
  static func startDispatcher(database: String) throws -> ChildProcess {
    try ChildProcess(
      ChildProcess.product("webhook-dispatcher"),
      environment: [
        "METER_DATABASE_URL": database, "METER_ENCRYPTION_KEY": encryptionKey,
        "METER_ADMIN_BIND": "127.0.0.1:0", "METER_WEBHOOK_ALLOW_HTTP": "true",
        "METER_WEBHOOK_ALLOW_CIDRS": "127.0.0.1/32",
      ])
  }

  /// The endpoint `ep_N`.
  static func addEndpoint(
    _ n: Int, customer: String, url: String, _ connection: PostgresConnection
  ) throws {
    let secret = try SigningSecret(scheme: .v1, bytes: Array(0..<32))
    let sealed = try SecretBox(base64Key: encryptionKey).seal(
      secret, endpoint: "ep_\(n)", nonce: Array(repeating: UInt8(truncatingIfNeeded: n), count: 12))
    try connection.query(
      "insert into customer (customer_id, name) values ($1, $1) on conflict do nothing",
      [.text(customer)], operation: "add customer")
    try EndpointStore(connection).add(
      id: "ep_\(n)", customer: customer, url: url, events: [], signing: "v1", sealedSecret: sealed)
  }

  func end() {
    broker.signal(SIGTERM)
    broker.wait()
  }
}

func note(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }
