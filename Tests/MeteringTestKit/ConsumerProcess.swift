import Foundation

/// A running usage-aggregator, or another consumer of the log.
package final class ConsumerProcess {
  package let process: ChildProcess
  package let adminPort: Int
  private let propertiesFile: String?

  /// - Parameters:
  ///   - product: the program to run.
  ///   - kafka: librdkafka properties, applied last.
  ///   - environment: added to what every aggregator needs.
  package init(
    _ product: String = "usage-aggregator", brokers: String, databaseURL: String,
    kafka: [String: String] = [:],
    environment: [String: String] = [:]
  ) throws {
    adminPort = try FreePort.next()
    var all = [
      "METER_KAFKA_BROKERS": brokers, "METER_DATABASE_URL": databaseURL,
      "METER_ADMIN_BIND": "127.0.0.1:\(adminPort)", "METER_MERGE_INTERVAL": "200ms",
    ]
    var kafka = kafka
    if let prefix = GivenKafka.prefix(for: brokers) { kafka["topic.prefix"] = prefix }
    if kafka.isEmpty {
      propertiesFile = nil
    } else {
      let path = NSTemporaryDirectory() + "metering-kafka-\(UUID().uuidString).properties"
      try kafka.map { "\($0)=\($1)" }.joined(separator: "\n")
        .write(toFile: path, atomically: true, encoding: .utf8)
      all["METER_KAFKA_CONFIG_FILE"] = path
      propertiesFile = path
    }
    all.merge(environment) { $1 }
    process = try ChildProcess(ChildProcess.product(product), environment: all)
  }

  deinit {
    if process.isRunning { process.killNow() }
    // If it stays, only a little space in the temporary folder is lost.
    if let propertiesFile { try? FileManager.default.removeItem(atPath: propertiesFile) }
  }

  /// Settings for a group that notices a dead member soon, because tests often wait for that. The
  /// mock cluster lets a join take 3 s, in which nobody sends heartbeats. A shorter session would
  /// end before it began. Other brokers refuse sessions below `group.min.session.timeout.ms`, 6 s
  /// by default.
  package static let briefSessions = [
    "session.timeout.ms": GivenKafka.brokers == nil ? "4000" : "6000",
    "heartbeat.interval.ms": "300",
  ]

  /// Status and body; nil while nobody answers.
  package func ready() -> (status: Int, body: String)? {
    HTTPGet.get(port: adminPort, "/health/ready")
  }

  package func waitUntilReady(within seconds: Double = 30) throws {
    var last = "no answer"
    try eventually("ready, but \(last); it says: \(process.output.suffix(3_000))", within: seconds)
    {
      guard let answer = ready() else { return false }
      last = answer.body
      return answer.status == 200
    }
  }

  /// Waits for status 503 with a body that contains `reason`.
  package func waitUntilUnavailable(_ reason: String, within seconds: Double = 30) throws {
    var last = "no answer"
    try eventually("503 with \(reason), but \(last)", within: seconds) {
      guard let answer = ready() else { return false }
      last = "\(answer.status) \(answer.body)"
      return answer.status == 503 && answer.body.contains(reason)
    }
  }

  /// The sum of a metric over its labels; nil while nobody answers.
  package func metric(_ name: String) -> Double? {
    guard let answer = HTTPGet.get(port: adminPort, "/metrics"), answer.status == 200 else {
      return nil
    }
    return answer.body.split(separator: "\n")
      .filter { $0.hasPrefix(name + " ") || $0.hasPrefix(name + "{") }
      .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0, +)
  }
}

/// Just enough of HTTP for an admin address.
package enum HTTPGet {
  package static func get(port: Int, _ path: String) -> (status: Int, body: String)? {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 2) else { return nil }
    defer { close(socket) }
    let request = "GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    guard TCP.write(socket, Array(request.utf8)) else { return nil }
    var bytes: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
    let text = String(decoding: bytes, as: UTF8.self)
    guard let head = text.range(of: "\r\n\r\n") else { return nil }
    let words = text.split(separator: " ", maxSplits: 2)
    guard words.count > 1, let status = Int(words[1]) else { return nil }
    return (status, String(text[head.upperBound...]))
  }
}
