import Foundation
import KafkaTransport
import MeteringTestKit

/// Sends events at an even rate from its own thread.
final class Flow: @unchecked Sendable {
  // `finished` is used with the lock held. `sentRate` is written before `finished` is set and read
  // after that.
  private let lock = NSLock()
  private var finished = false
  private(set) var sentRate = 0

  var isFinished: Bool {
    lock.lock()
    defer { lock.unlock() }
    return finished
  }

  init(_ kafka: KafkaConfiguration, rate: Int, seconds: Int, licenses: Int) throws {
    var kafka = kafka
    kafka.set("linger.ms", "100")
    let producer = try KafkaProducer(kafka, clientID: "flow")
    Thread.detachNewThread { [self] in
      var maker = EventMaker(
        events: rate * seconds, licenses: licenses, minutes: 1,
        now: Int64(Date().timeIntervalSince1970 * 1_000), seed: 2)
      var key: [UInt8] = []
      var value: [UInt8] = []
      let started = DispatchTime.now().uptimeNanoseconds
      func elapsed() -> Double { Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9 }
      var sent = 0
      while elapsed() < Double(seconds) {
        let due = min(rate * seconds, Int(elapsed() * Double(rate)))
        while sent < due {
          maker.next(key: &key, value: &value)
          let isQueued = key.withUnsafeBytes { key in
            value.withUnsafeBytes {
              // A refusal means a full queue or a broken setup. The printed rate shows both.
              (try? producer.produce(topic: UsageLog.topic, key: key, value: $0)) ?? false
            }
          }
          if isQueued { sent += 1 } else { _ = producer.poll(timeoutMilliseconds: 1) }
        }
        _ = producer.poll(timeoutMilliseconds: 1)
      }
      sentRate = Int(Double(sent) / elapsed())
      lock.lock()
      finished = true
      lock.unlock()
    }
  }
}
