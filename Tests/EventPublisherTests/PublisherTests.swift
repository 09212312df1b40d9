import EventPublisher
import Foundation
import KafkaTransport
import MeteringTestKit
import Testing

@Suite(.serialized)
struct PublisherTests {
  static func log() throws -> UsageLog {
    let log = try UsageLog(partitions: 4)
    return log
  }

  static func event(_ n: Int) -> UsageEvent {
    UsageEvent(id: "e-\(n)", source: "/test", subject: "lic_\(n % 20)")
  }

  @Test("Published events arrive and count once, and the last report leaves nothing missing")
  func arrives() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    for n in 0..<10_000 { #expect(publisher.publish(Self.event(n)) == .accepted) }
    for n in 0..<500 {
      let event = ValidationEvent(
        source: "/test", subject: "lic_\(n)", code: "domain_mismatch", isValid: false,
        domain: "pirated-site.com", clientIP: "203.0.113.9", sdk: "node/2.1.0", duration: 812)
      #expect(publisher.publish(event) == .accepted)
    }
    #expect(publisher.publish(UsageEvent(source: "/t", subject: "")) == .invalid(.subject))
    try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    publisher.stop()
    #expect(publisher.publish(Self.event(10_000)) == .dropped)
    let count = try Count(log)
    #expect(count.total == 10_000 && count.ids.count == 10_000 && count.deadLetters.isEmpty)
    let report = try #require(count.reports.last { $0.isFinal })
    #expect(report.producer == publisher.producer && report.producer.hasPrefix("eu-1-"))
    #expect(report.accepted - report.dropped - report.pending == 10_000)
    var (validations, reports) = (0, 0)
    try log.readAll("license.validations.v1") { record in
      let text = String(decoding: record.value.map { Array($0) } ?? [], as: UTF8.self)
      if text.contains("license.validation.performed") { validations += 1 }
      if text.contains("license.producer.reported") { reports += 1 }
    }
    #expect(validations == 500 && reports >= 1)
  }

  @Test("Without Kafka events stay, and the next process sends them once, under the same name")
  func restart() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    try log.cluster.setBrokerDown()
    var settings = configuration(log.brokers, folder.spool)
    settings.drainMilliseconds = 100
    var producer = ""
    for life in 0..<3 {
      let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
      if life > 0 { #expect(publisher.producer == producer) }
      producer = publisher.producer
      for n in 0..<1_000 { publisher.publish(Self.event(life * 1_000 + n)) }
      #expect(publisher.statistics.usage.pending == Int64(life + 1) * 1_000)
      publisher.stop()
    }
    try log.cluster.setBrokerUp()
    let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
    try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    publisher.stop()
    let count = try Count(log)
    #expect(count.total == 3_000 && count.ids.count == 3_000)
    for sequences in count.sequences.values { #expect(sequences == sequences.sorted()) }
  }

  @Test("The publisher waits for slow brokers, and the producer stays the same")
  func slowBrokers() throws {
    let log = try UsageLog(partitions: 1)
    let folder = try TemporaryFolder()
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    publisher.publish(Self.event(0))
    try eventually("it is delivered") { publisher.statistics.usage.pending == 0 }
    // This is less than the time after which a producer is replaced.
    try log.cluster.setRTT(milliseconds: 1_500)
    for n in 1...500 { publisher.publish(Self.event(n)) }
    try eventually("some are delivered") { publisher.statistics.usage.pending < 500 }
    // These come while others are in flight.
    for n in 501...1_000 { publisher.publish(Self.event(n)) }
    try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    try log.cluster.setRTT(milliseconds: 0)
    #expect(publisher.statistics.restarts == 0)
    publisher.stop()
    #expect(try Count(log).total == 1_001)
  }

  @Test("A connection that Kafka refuses is reported as such, not as a missing broker")
  func refusedConnection() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    let properties = folder.path + "/kafka.properties"
    try "security.protocol=ssl".write(toFile: properties, atomically: true, encoding: .utf8)
    var settings = configuration(log.brokers, folder.spool)
    settings.kafkaConfigFile = properties
    settings.drainMilliseconds = 100
    let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
    publisher.publish(Self.event(0))
    try eventually("it says what is refused, but \(publisher.statistics.problem ?? "nothing")") {
      publisher.statistics.problem?.contains("SSL") == true
    }
    publisher.stop()
  }

  @Test("Kafka's absence is reported while nothing is published, and until Kafka answers")
  func idleOutage() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    var settings = configuration(log.brokers, folder.spool)
    settings.drainMilliseconds = 100
    let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
    publisher.publish(Self.event(0))
    try eventually("it is delivered") { publisher.statistics.usage.pending == 0 }
    try log.cluster.setBrokerDown()
    try eventually("it says so") { publisher.statistics.problem != nil }
    for _ in 0..<60 {
      #expect(publisher.statistics.problem != nil)
      Thread.sleep(forTimeInterval: 0.1)
    }
    try log.cluster.setBrokerUp()
    try eventually("it says that it is over") { publisher.statistics.problem == nil }
    publisher.stop()
  }

  @Test("Events wait for a missing topic and keep their order")
  func missingTopic() throws {
    let log = try UsageLog(partitions: 2, makesTopics: false)
    let folder = try TemporaryFolder()
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    for n in 0..<100 { publisher.publish(Self.event(n)) }
    try eventually("it says what is missing") {
      publisher.statistics.problem?.contains("topics apply") == true
    }
    try log.cluster.createTopic(UsageLog.topic, partitions: 2)
    try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    #expect(publisher.statistics.problem == nil)
    publisher.stop()
    #expect(try Count(log).total == 100)
  }

  @Test("After the broker refuses a batch, it begins again where it was, and never further on")
  func refusals() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    for round in 0..<5 {
      // For a batch, TOPIC_AUTHORIZATION_FAILED is final. librdkafka itself retries after
      // NOT_LEADER and after a timeout.
      log.cluster.pushRequestErrors(apiKey: .produce, [29, 6, 7, 29])
      for n in 0..<2_000 { publisher.publish(Self.event(round * 2_000 + n)) }
      try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    }
    #expect(publisher.statistics.restarts > 0)
    #expect(publisher.statistics.usage.dropped == 0)
    publisher.stop()
    let count = try Count(log)
    #expect(count.total == 10_000 && count.ids.count == 10_000)
    for sequences in count.sequences.values { #expect(sequences == sequences.sorted()) }
  }

  @Test("A record that is refused for its content is dropped, and none of its neighbors are")
  func refusedRecords() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    // The records are too large for librdkafka's own setting, and then for the broker.
    let properties = folder.path + "/kafka.properties"
    try "message.max.bytes=1000\n".write(toFile: properties, atomically: true, encoding: .utf8)
    var settings = configuration(log.brokers, folder.spool)
    settings.kafkaConfigFile = properties
    let small = try EventPublisher(configuration: settings, logger: quietLogger())
    for n in 0..<100 {
      var event = Self.event(n)
      if n == 50 { event.source = "/" + String(repeating: "long", count: 250) }
      small.publish(event)
    }
    try eventually("all but one are delivered") { small.statistics.usage.pending == 0 }
    #expect(small.statistics.usage.dropped == 1 && small.statistics.restarts == 0)
    small.stop()
    #expect(try Count(log).total == 99)
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    try eventually("its first report, which would take an error for itself, is there") {
      // It comes after the last report of the previous process.
      let reports = try Count(log).reports
      return reports.contains { $0.isFinal } && reports.last?.isFinal == false
    }
    // One record gets MSG_SIZE_TOO_LARGE twice. It is sent alone, so that no other record gets the
    // second error.
    log.cluster.pushRequestErrors(apiKey: .produce, [10, 10])
    publisher.publish(Self.event(100))
    try eventually("it is given up") { publisher.statistics.usage.dropped == 2 }
    #expect(publisher.statistics.restarts >= 2)
    for n in 101..<300 { publisher.publish(Self.event(n)) }
    try eventually("the rest is delivered") { publisher.statistics.usage.pending == 0 }
    #expect(publisher.statistics.usage.dropped == 2)
    publisher.stop()
    let count = try Count(log)
    #expect(count.total == 298 && count.ids.count == 298)
    let report = try #require(count.reports.last { $0.isFinal })
    #expect(report.accepted - report.dropped - report.pending == 298)
  }

  @Test(
    "A start reports immediately, since the last process may have reported these events as pending")
  func reportsAtOnce() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    var settings = configuration(log.brokers, folder.spool)
    settings.drainMilliseconds = 0
    let first = try EventPublisher(configuration: settings, logger: quietLogger())
    first.publish(Self.event(0))
    first.stop()
    let second = try EventPublisher(configuration: settings, logger: quietLogger())
    try eventually("a report that is not final", within: 5) {
      try Count(log).reports.contains { !$0.isFinal && $0.accepted == 1 }
    }
    second.stop()
  }

  @Test("A full spool keeps the oldest events, and counts what it drops in the ledger")
  func full() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    try log.cluster.setBrokerDown()
    var settings = configuration(log.brokers, folder.spool)
    settings.maximumBytes = 1 << 20
    let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
    var accepted: [String] = []
    for n in 0..<20_000 where publisher.publish(Self.event(n)) == .accepted {
      accepted.append("e-\(n)")
    }
    #expect(accepted.count > 1_000 && accepted.count < 20_000)
    #expect(publisher.publish(batch: (0..<10).map(Self.event)) == .full)
    #expect(publisher.statistics.usage.dropped == Int64(20_000 - accepted.count))
    #expect(publisher.statistics.spoolBytes <= 1 << 20)
    try log.cluster.setBrokerUp()
    try eventually("all are delivered") { publisher.statistics.usage.pending == 0 }
    // There is room again.
    try eventually("events are accepted again") {
      publisher.publish(Self.event(20_000)) == .accepted
    }
    publisher.stop()
    let count = try Count(log)
    #expect(Set(count.ids.keys).isSuperset(of: accepted) && count.total == accepted.count + 1)
    let report = try #require(count.reports.last { $0.isFinal })
    #expect(report.accepted - report.dropped - report.pending == Int64(count.total))
  }

  @Test("A batch is accepted as a whole or not at all")
  func batch() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    let publisher = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    var batch = (0..<100).map(Self.event)
    #expect(publisher.publish(batch: batch) == .accepted)
    batch[57].meter = "Bad Meter"
    #expect(publisher.publish(batch: batch) == .invalid(index: 57, .meter))
    #expect(publisher.statistics.usage.accepted == 100)
    #expect(publisher.publish(batch: []) == .accepted)
    publisher.stop()
    #expect(try Count(log).total == 100)
  }

  @Test("A spool belongs to one process at a time")
  func exclusive() throws {
    let log = try Self.log()
    let folder = try TemporaryFolder()
    let first = try EventPublisher(
      configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    #expect(throws: SpoolError.inUse(folder.spool)) {
      try EventPublisher(
        configuration: configuration(log.brokers, folder.spool), logger: quietLogger())
    }
    first.stop()
  }

  @Test("Every accepted event counts once, even if the process is killed a hundred times")
  func killed() throws {
    var random = SeededRandom(of: "publisher killed")
    let log = try Self.log()
    let folder = try TemporaryFolder()
    var accepted: [Int64] = []
    for life in 0..<100 {
      let counter = folder.path + "/counter-\(life)"
      let probe = try ChildProcess(
        ChildProcess.product("publish-probe"), [log.brokers, folder.spool, counter, "life\(life)"])
      try eventually("it publishes") { Self.read(counter) > 0 }
      usleep(UInt32.random(in: 0..<20_000, using: &random))
      probe.killNow()
      accepted.append(Self.read(counter))
      // Sometimes there is no broker to send to.
      if life % 10 == 3 { try log.cluster.setBrokerDown() }
      if life % 10 == 6 { try log.cluster.setBrokerUp() }
    }
    var settings = configuration(log.brokers, folder.spool)
    settings.maximumBytes = 64 << 20
    let publisher = try EventPublisher(configuration: settings, logger: quietLogger())
    try eventually("all are delivered", within: 60) { publisher.statistics.usage.pending == 0 }
    publisher.stop()
    let count = try Count(log)
    var missing = 0
    for (life, events) in accepted.enumerated() {
      for n in 0..<events where count.ids["life\(life)-\(n)"] != 1 { missing += 1 }
    }
    #expect(missing == 0)
    #expect(count.ids.values.allSatisfy { $0 == 1 })
    // The last event of a life may have been accepted without being noted.
    let total = accepted.reduce(0, +)
    #expect((total...total + 100).contains(Int64(count.total)))
    let report = try #require(count.reports.last { $0.isFinal })
    #expect(report.accepted - report.dropped - report.pending == Int64(count.total))
    #expect(report.pending == 0)
  }

  private static func read(_ path: String) -> Int64 {
    guard let bytes = FileManager.default.contents(atPath: path), bytes.count >= 8 else { return 0 }
    return bytes.withUnsafeBytes { $0.load(as: Int64.self) }
  }
}
