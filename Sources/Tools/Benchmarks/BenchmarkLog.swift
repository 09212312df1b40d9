import Foundation
import KafkaTransport
import MeteringTestKit

/// Usage events in a broker, and the bare loop that reads them, with which services are compared.
struct BenchmarkLog {
  let kafka: KafkaConfiguration
  let events: Int
  let licenses: Int
  let minutes: Int

  func produce() throws {
    var kafka = kafka
    kafka.set("batch.size", "1000000")
    kafka.set("linger.ms", "500")
    kafka.set("queue.buffering.max.messages", "1000000")
    let producer = try KafkaProducer(kafka, clientID: "benchmark")
    var maker = EventMaker(
      events: events, licenses: licenses, minutes: minutes,
      now: Int64(Date().timeIntervalSince1970 * 1_000), seed: 1)
    var key: [UInt8] = []
    var value: [UInt8] = []
    for _ in 0..<events {
      maker.next(key: &key, value: &value)
      while !(try key.withUnsafeBytes { key in
        try value.withUnsafeBytes {
          try producer.produce(topic: UsageLog.topic, key: key, value: $0)
        }
      }) {
        _ = producer.poll(timeoutMilliseconds: 100)
      }
    }
    try producer.flush(timeoutMilliseconds: 120_000)
  }

  /// The seconds that a bare rd_kafka_consume_batch_queue loop takes from the assignment to the
  /// last message. The services are measured in the same way.
  func bareLoop(_ run: Int) throws -> Double {
    let consumer = try KafkaConsumer(kafka, group: "bare-\(run)-\(UUID())", clientID: "bare")
    try consumer.subscribe([UsageLog.topic])
    let batch = MessageBatch(capacity: 4_096)
    var count = 0
    var bytes = 0
    var started: UInt64 = 0
    while count < events {
      try consumer.consume(into: batch, timeoutMilliseconds: 5)
      for i in 0..<batch.count where batch.kind(i) == .record {
        count += 1
        bytes += batch.record(i).value?.count ?? 0
      }
      batch.recycle()
      while let rebalance = consumer.takeRebalance() {
        switch rebalance {
        case .assigned(let partitions):
          started = DispatchTime.now().uptimeNanoseconds
          try consumer.assign(partitions.map { ($0, offset: 0) })
        case .revoked(let partitions, _): try consumer.unassign(partitions)
        }
      }
    }
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9
    consumer.close()
    return seconds
  }
}
