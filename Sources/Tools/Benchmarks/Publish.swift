import ArgumentParser
import CAllocationCount
import EventPublisher
import Foundation
import KafkaTransport
import Logging
import MeteringTestKit

/// Measures the publisher and a bare `rd_kafka_produce` loop with the same events and the same
/// broker in one run.
struct Publish: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures the time, the rate and the allocations of publish() beside bare librdkafka."
  )

  @Option(help: "How many events each side sends in each round.") var events = 2_000_000
  @Option(help: "The number of rounds. The medians are printed.") var rounds = 3

  private struct Result {
    var eventsPerSecond = 0.0
    var deliveredPerSecond = 0.0
    var cpuPerMillion = 0.0
    /// The nanoseconds of the calls.
    var p50 = 0.0
    var p99 = 0.0
    var p999 = 0.0
    var longest = 0.0
    var allocations = 0.0
  }

  func run() throws {
    let stage = try Stage()
    defer { stage.end() }
    var bare: [Result] = []
    var ours: [Result] = []
    for round in 0..<rounds {
      bare.append(try runBare(stage))
      ours.append(try runPublisher(stage))
      note("round \(round + 1) of \(rounds)")
    }
    show("bare rd_kafka_produce", bare)
    show("publish", ours)
    let ratio =
      Self.median(ours.map(\.deliveredPerSecond)) / Self.median(bare.map(\.deliveredPerSecond))
    print("ratio of events/s until all are delivered: \(Self.round(ratio, 2))")
  }

  private func show(_ name: String, _ results: [Result]) {
    func median(_ value: (Result) -> Double) -> Double { Self.median(results.map(value)) }
    print(
      """
      \(name): \(Int(median(\.eventsPerSecond))) calls/s, \(Int(median(\.deliveredPerSecond))) events/s until all are delivered, \
      CPU \(Self.round(median(\.cpuPerMillion), 2)) s a million
        a call: p50 \(Int(median(\.p50))) ns, p99 \(Int(median(\.p99))) ns, p99.9 \(Int(median(\.p999))) ns, longest \(Int(median(\.longest) / 1_000)) µs; \
      allocations \(Self.round(median(\.allocations), 4))
      """)
  }

  /// Calls `call` for each event, then `drain`.
  private func measure(_ call: (Int) -> Void, drain: () throws -> Void) rethrows -> Result {
    var times = [UInt32](repeating: 0, count: events)
    let cpuBefore = Self.cpuSeconds()
    let allocationsBefore = meter_allocations()
    let began = DispatchTime.now().uptimeNanoseconds
    var last = began
    for n in 0..<events {
      call(n)
      let now = DispatchTime.now().uptimeNanoseconds
      times[n] = UInt32(clamping: now - last)
      last = now
    }
    let allocations = meter_allocations() - allocationsBefore
    try drain()
    let end = DispatchTime.now().uptimeNanoseconds
    let cpu = Self.cpuSeconds() - cpuBefore
    times.sort()
    func quantile(_ q: Double) -> Double { Double(times[min(Int(Double(events) * q), events - 1)]) }
    return Result(
      eventsPerSecond: Double(events) * 1e9 / Double(last - began),
      deliveredPerSecond: Double(events) * 1e9 / Double(end - began),
      cpuPerMillion: cpu * 1e6 / Double(events), p50: quantile(0.5), p99: quantile(0.99),
      p999: quantile(0.999), longest: Double(times[events - 1]),
      allocations: Double(allocations) / Double(events))
  }

  private static let subjects = (0..<1_000).map { "lic_\($0)" }

  private func runBare(_ stage: Stage) throws -> Result {
    let producer = try KafkaProducer(stage.kafka(), clientID: "bare", onDelivery: { _ in })
    // The value is as long as the publisher's and is made beforehand.
    let value = Array(
      #"{"specversion":"1.0","id":"bench-0000000000000-1000000","source":"/validation/eu-1","type":"license.usage.recorded","subject":"lic_100","time":"2026-11-23T18:40:00.123Z","datacontenttype":"application/json","producer":"bench-0000000000000","sequence":1000000,"data":{"meter":"api_calls","quantity":1,"domain":"app.example.com"}}"#
        .utf8)
    let keys = Self.subjects.map { Array($0.utf8) }
    return try measure { n in
      value.withUnsafeBytes { value in
        keys[n % 1_000].withUnsafeBytes { key in
          while (try? producer.produce(topic: UsageLog.topic, key: key, value: value)) == false {
            producer.poll(timeoutMilliseconds: 10)
          }
        }
      }
      if n % 1_000 == 0 { producer.poll(timeoutMilliseconds: 0) }
    } drain: {
      try producer.flush(timeoutMilliseconds: 60_000)
    }
  }

  private func runPublisher(_ stage: Stage) throws -> Result {
    let folder = NSTemporaryDirectory() + "publish-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let publisher = try EventPublisher(
      configuration: .init(brokers: stage.servers, spoolDirectory: folder),
      logger: Logger(label: "publish"))
    publisher.publish(UsageEvent(source: "/validation/eu-1", subject: "lic_1"))
    try eventually("it sends") { publisher.statistics.usage.pending == 0 }
    var refused = 0
    let result = measure { n in
      let outcome = publisher.publish(
        UsageEvent(
          source: "/validation/eu-1", subject: Self.subjects[n % 1_000], domain: "app.example.com"))
      if outcome != .accepted { refused += 1 }
    } drain: {
      while publisher.statistics.usage.pending > 0 { usleep(1_000) }
    }
    publisher.stop()
    if refused > 0 { print("publish: \(refused) were dropped, the spool was full") }
    return result
  }

  private static func cpuSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  private static func median(_ values: [Double]) -> Double {
    values.sorted()[values.count / 2]
  }

  private static func round(_ value: Double, _ digits: Int) -> Double {
    let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
    return (value * scale).rounded() / scale
  }
}
