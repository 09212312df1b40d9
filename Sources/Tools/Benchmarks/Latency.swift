import ArgumentParser
import Foundation
import KafkaTransport
import Metering
import MeteringTestKit
import PostgresStore

/// Measures how long an event takes from the producer's call until a reader of the views sees it.
/// It does so with a single event and while others flow.
struct Latency: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Measures the time from the producer's call until an event is visible, idle and under load.",
    discussion: """
      Marked events are sent one at a time; a connection of its own asks the view until it counts them. The time includes the
      producer's linger, the broker, the flush, and the pause between two questions: a millisecond, or
      twice as long as the last question took, so that the questions leave the processors to what is
      measured.

      Example: swift run -c release Benchmarks latency --rate 100000

      With --database, metering-api may run on the same database, and `Benchmarks query --api-only
      --clients 200` beside it.
      """)

  @Option(help: "How many events a second flow beside the marked ones.") var rate = 100_000
  @Option(help: "For how many seconds it is measured under load.") var seconds = 20
  @Option(help: "The number of licenses.") var licenses = 1_000
  @Option(help: "The number of marked events in the idle part.") var idleProbes = 60
  @Option(
    help:
      "A migrated database in which nothing was counted yet. Without it, a private server is started."
  )
  var database: String?

  private static let topic = TopicName.usage
  private static let probe = "lic_probe"

  func run() throws {
    note("starting broker and PostgreSQL")
    let postgres = try database == nil ? PrivatePostgres() : nil
    let stage = try Stage()
    guard let url = try database ?? postgres?.makeDatabase() else { return }
    let watch = try PostgresConnection(url: url, application: "benchmark")
    let aggregator = try stage.startAggregator(database: url)
    var kafka = try stage.kafka()
    kafka.set("linger.ms", "5")
    let producer = try KafkaProducer(kafka, clientID: "probe")
    var prober = Prober(producer: producer, watch: watch)
    // The first events pay for connections and plans.
    for _ in 0..<5 { _ = try prober.probe() }

    note("idle")
    var idle: [Double] = []
    for _ in 0..<idleProbes {
      Thread.sleep(forTimeInterval: 0.1)
      idle.append(try prober.probe())
    }
    report("idle", idle)

    note("\(rate) events/s for \(seconds) s")
    let flow = try Flow(stage.kafka(), rate: rate, seconds: seconds, licenses: licenses)
    var loaded: [Double] = []
    while !flow.isFinished { loaded.append(try prober.probe()) }
    report("under_load", loaded)
    print(
      "sent_events_per_second".padding(toLength: 30, withPad: " ", startingAt: 0), flow.sentRate)
    aggregator.signal(SIGTERM)
    aggregator.wait()
    stage.end()
  }

  private func report(_ name: String, _ milliseconds: [Double]) {
    let sorted = milliseconds.sorted()
    guard !sorted.isEmpty else { return }
    func quantile(_ q: Double) -> String {
      String(format: "%.0f", sorted[min(sorted.count - 1, Int(Double(sorted.count) * q))])
    }
    for (label, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1)] {
      print(
        "\(name)_\(label)_ms".padding(toLength: 30, withPad: " ", startingAt: 0), quantile(q))
    }
    print("\(name)_probes".padding(toLength: 30, withPad: " ", startingAt: 0), sorted.count)
  }

  private struct Prober {
    let producer: KafkaProducer
    let watch: PostgresConnection
    var sent: Int64 = 0

    /// Sends one marked event, waits until the view counts it, and returns the milliseconds in
    /// between.
    mutating func probe() throws -> Double {
      sent += 1
      let now = UTCTime.text(Int64(Date().timeIntervalSince1970 * 1_000))
      let value = Array(
        #"{"specversion":"1.0","id":"probe-\#(sent)","source":"/probe","type":"license.usage.recorded","subject":"\#(Latency.probe)","time":"\#(now)","data":{}}"#
          .utf8)
      let started = DispatchTime.now().uptimeNanoseconds
      func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - started) / 1e6 }
      try Array(Latency.probe.utf8).withUnsafeBytes { key in
        try value.withUnsafeBytes {
          // It is refused while the queue is full. That wait counts.
          while try !producer.produce(topic: Latency.topic, key: key, value: $0) {
            _ = producer.poll(timeoutMilliseconds: 1)
          }
        }
      }
      while true {
        _ = producer.poll(timeoutMilliseconds: 0)
        let asked = DispatchTime.now().uptimeNanoseconds
        let rows = try watch.query(
          "select coalesce(sum(event_count), 0)::bigint from usage_by_hour where license_id = $1",
          [.text(Latency.probe)])
        if rows.integer(0, 0) == sent { return elapsed() }
        guard elapsed() < 60_000 else { throw ValidationError("not counted after a minute") }
        let taken = Double(DispatchTime.now().uptimeNanoseconds - asked) / 1e9
        Thread.sleep(forTimeInterval: max(0.001, 2 * taken))
      }
    }
  }
}
