import ArgumentParser
import Dispatch
import UsageAggregation

/// Measures only decoding, deduplicating and counting, in one thread without broker and database.
struct Count: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures how long decoding, deduplicating and counting one event in memory takes.")

  @Option(help: "The number of events.") var events = 2_000_000
  @Option(help: "The number of licenses.") var licenses = 1_000
  @Option(help: "The number of minutes over which the times of events are spread.") var minutes = 10
  @Option(help: "The number of partitions.") var partitions = 64

  func run() throws {
    var maker = EventMaker(
      events: events, licenses: licenses, minutes: minutes, now: 1_790_000_000_000, seed: 1)
    var key: [UInt8] = []
    var value: [UInt8] = []
    // These are runs of one partition, like those of fetches.
    var logs: [[(key: Range<Int>, value: Range<Int>)]] = Array(repeating: [], count: partitions)
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: events * 420, alignment: 64)
    defer { bytes.deallocate() }
    var used = 0
    func put(_ array: [UInt8]) -> Range<Int> {
      array.withUnsafeBytes {
        (bytes.baseAddress! + used).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
      }
      used += array.count
      return used - array.count..<used
    }
    for _ in 0..<events {
      maker.next(key: &key, value: &value)
      let hash = key.reduce(UInt32(2_166_136_261)) { ($0 ^ UInt32($1)) &* 16_777_619 }
      logs[Int(hash) % partitions].append((put(key), put(value)))
    }
    var accumulator = LogAccumulator(settings: .init(), hash: KeyedHash(seed: (1, 2, 3, 4)))
    let batch = accumulator.makeBatch()
    for partition in 0..<partitions {
      accumulator.own(
        Int32(partition), readFrom: 0, nextOffset: 0, windowOffsets: 262_144, remembered: nil,
        producers: [])
    }
    var next = Array(repeating: 0, count: partitions)
    var views: [LogRecordView] = []
    var busy: UInt64 = 0
    var left = events
    while left > 0 {
      for partition in 0..<partitions {
        let end = min(next[partition] + 1_000, logs[partition].count)
        guard end > next[partition] else { continue }
        views.removeAll(keepingCapacity: true)
        for i in next[partition]..<end {
          let (key, value) = logs[partition][i]
          views.append(
            LogRecordView(
              offset: Int64(i), timestamp: 1_790_000_000_000,
              value: UnsafeRawBufferPointer(rebasing: bytes[value]),
              key: UnsafeRawBufferPointer(rebasing: bytes[key])))
        }
        let started = DispatchTime.now().uptimeNanoseconds
        _ = views.withUnsafeBufferPointer {
          accumulator.take($0, of: Int32(partition), requeues: [], into: batch) { _ in [:] }
        }
        busy += DispatchTime.now().uptimeNanoseconds - started
        left -= end - next[partition]
        next[partition] = end
      }
    }
    var minutes = 0
    batch.table.forEachGroup { _, _, _, address in
      batch.table.forEachCell(of: address) { cell, _ in if cell.kind == .minute { minutes += 1 } }
    }
    print(
      "events \(events), licenses \(licenses), counted \(batch.counters.counted), duplicates \(batch.counters.duplicates)"
    )
    print("ns an event: \(busy / UInt64(events))")
    print(
      "license-minutes \(minutes), bytes \(batch.table.bytes), a license-minute \(batch.table.bytes / max(minutes, 1))"
    )
  }
}
