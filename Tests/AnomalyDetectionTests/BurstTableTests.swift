import AnomalyDetection
import MeteringTestKit
import Testing

/// The simplest possible table of licenses: a dictionary that evicts nothing.
private struct NaiveTable {
  enum License {
    case young([Int32: Int64])
    case grown(BurstTracker)
  }
  var licenses: [[UInt8]: License] = [:]

  mutating func add(_ key: [UInt8], _ minute: Int32, _ calls: Int64) -> Burst? {
    switch licenses[key] ?? .young([:]) {
    case .young(var minutes):
      minutes[minute, default: 0] += calls
      guard minutes.count == 3 else {
        licenses[key] = .young(minutes)
        return nil
      }
      minutes[minute] = nil
      var tracker = BurstTracker(firstMinute: minutes.keys.min()!)
      var burst: Burst?
      for (minute, calls) in minutes.sorted(by: { $0.key < $1.key }) {
        burst = tracker.add(calls, at: minute) ?? burst
      }
      burst = tracker.add(calls, at: minute) ?? burst
      licenses[key] = .grown(tracker)
      return burst
    case .grown(var tracker):
      let burst = tracker.add(calls, at: minute)
      licenses[key] = .grown(tracker)
      return burst
    }
  }
}

@Suite struct BurstTableTests {
  private static let start: Int32 = 29_000_000

  private struct Add: Equatable {
    var key: [UInt8]
    var minute: Int32
    var calls: Int64
  }

  private struct Alert: Equatable {
    var key: [UInt8]
    var startMinute: Int32
    var minute: Int32
  }

  /// Licenses with ids of 0 to 255 bytes, slightly out of order. Some are silent for long, and some
  /// have bursts.
  private static func adds(_ count: Int, seed: UInt64) -> [Add] {
    var random = RandomCounts(seed: seed)
    let keys = (0..<40).map { index in
      [UInt8](repeating: UInt8(65 + index % 3), count: index * 7 % 256) + [UInt8(index)]
    }
    var minute = start
    return (0..<count).map { row in
      if row % 30 == 0 { minute += random.int(0...999) == 0 ? Int32(random.int(60...9_000)) : 1 }
      let hot = random.int(0...3) > 0
      let key = keys[hot ? random.int(0...3) : random.int(0...39)]
      let isBurst = row % 40_000 > 38_000 && hot
      return Add(
        key: key, minute: minute - Int32([0, 0, 0, 1, 1, 4][random.int(0...5)]),
        calls: Int64(random.int(0...20) * (isBurst ? 30 : 1)))
    }
  }

  private static func run(_ table: inout BurstTable, _ adds: [Add]) -> [Alert] {
    adds.compactMap { add in
      let burst = add.key.withUnsafeBufferPointer {
        table.add(license: $0, minute: add.minute, calls: add.calls)
      }
      return burst.map { Alert(key: add.key, startMinute: $0.startMinute, minute: $0.minute) }
    }
  }

  private static func bytes(_ table: borrowing BurstTable) -> [UInt8] {
    var bytes: [UInt8] = []
    table.serialize(into: &bytes)
    return bytes
  }

  @Test("The table reports what a dictionary of detectors reports", arguments: [1, 2] as [UInt64])
  func naive(seed: UInt64) {
    let adds = Self.adds(100_000, seed: seed)
    var table = BurstTable(seed: seed)
    var naive = NaiveTable()
    let told = Self.run(&table, adds)
    let expected = adds.compactMap { add in
      naive.add(add.key, add.minute, add.calls).map {
        Alert(key: add.key, startMinute: $0.startMinute, minute: $0.minute)
      }
    }
    #expect(told == expected)
    #expect(told.count >= 2)
    #expect(table.count == naive.licenses.count)
  }

  @Test("However adds are split, the alerts are the same")
  func split() {
    let adds = Self.adds(80_000, seed: 3)
    var random = SeededRandom(seed: 4)
    let parts = adds.flatMap { add in
      let first = add.calls == 0 ? 0 : Int64(random.next() % UInt64(add.calls + 1))
      return [first, 0, add.calls - first].map { Add(key: add.key, minute: add.minute, calls: $0) }
    }
    var joined: [Add] = []
    for add in adds {
      let isSame = joined.last.map { $0.key == add.key && $0.minute == add.minute } ?? false
      if isSame { joined[joined.count - 1].calls += add.calls } else { joined.append(add) }
    }
    var whole = BurstTable(seed: 1)
    var split = BurstTable(seed: 2)
    var merged = BurstTable(seed: 3)
    let told = Self.run(&whole, adds)
    #expect(!told.isEmpty)
    #expect(Self.run(&split, parts) == told)
    #expect(Self.run(&merged, joined) == told)
  }

  @Test("A table that is read back continues as if nothing had happened")
  func roundTrip() throws {
    let adds = Self.adds(90_000, seed: 5)
    var whole = BurstTable(seed: 1)
    let told = Self.run(&whole, adds)
    var table = BurstTable(seed: 2)
    var parts: [Alert] = []
    for start in stride(from: 0, to: adds.count, by: 7_000) {
      parts += Self.run(&table, Array(adds[start..<min(start + 7_000, adds.count)]))
      let bytes = Self.bytes(table)
      var isRead = false
      bytes.withUnsafeBytes {
        if let read = BurstTable(seed: UInt64(start), bytes: $0) {
          table = read
          isRead = true
        }
      }
      try #require(isRead)
    }
    #expect(parts == told)
  }

  @Test("No prefix and no changed byte of a state is read, and none traps")
  func damaged() {
    var table = BurstTable(settings: .init(maximumLicenses: 64), seed: 1)
    _ = Self.run(&table, Array(Self.adds(2_000, seed: 6)))
    let good = Self.bytes(table)
    func isRead(_ bytes: some Collection<UInt8>) -> Bool {
      Array(bytes).withUnsafeBytes {
        let table = BurstTable(settings: .init(maximumLicenses: 64), seed: 1, bytes: $0)
        return table != nil
      }
    }
    #expect(isRead(good))
    #expect(!isRead(good + [0]))
    for length in stride(from: 0, to: good.count, by: 7) { #expect(!isRead(good[..<length])) }
    for index in stride(from: 0, to: good.count, by: 5) {
      var bad = good
      bad[index] ^= UInt8(1 << (index % 8))
      #expect(!isRead(bad))
    }
    var random = SeededRandom(seed: 8)
    for _ in 0..<200 {
      #expect(
        !isRead(
          (0..<Int(random.next() % 900)).map { _ in UInt8(truncatingIfNeeded: random.next()) }))
    }
    let other = good.withUnsafeBytes {
      let table = BurstTable(settings: .init(maximumLicenses: 16), seed: 1, bytes: $0)
      return table != nil
    }
    #expect(!other, "more licenses than the settings allow")
  }

  @Test("Made-up ids do not push out the licenses that are in use, and memory is bounded")
  func attack() {
    var table = BurstTable(settings: .init(maximumLicenses: 1_000), seed: 1)
    let real = (0..<200).map { Array("license-\($0)".utf8) }
    var random = SeededRandom(seed: 9)
    var told = 0
    var most = 0
    for minute in 0..<600 {
      for (index, key) in real.enumerated() {
        let isLoop = minute >= 500 && index == 7
        told +=
          Self.run(
            &table,
            [Add(key: key, minute: Self.start + Int32(minute), calls: isLoop ? 900 : 50)]
          ).count
      }
      for _ in 0..<300 {
        let key = (0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        _ = Self.run(&table, [Add(key: key, minute: Self.start + Int32(minute), calls: 1)])
      }
      most = max(most, table.bytes)
    }
    #expect(told == 1)
    #expect(table.count == 1_000)
    #expect(most < 1_000 * 330)
  }

  @Test("Licenses that all have detectors displace those that have long been silent")
  func detectorsMove() {
    var table = BurstTable(settings: .init(maximumLicenses: 64), seed: 1)
    for round in 0..<40 {
      for minute in 0..<20 {
        for index in 0..<60 {
          let key = Array("round-\(round % 3)-\(index)".utf8)
          let at = Self.start + Int32(round * 100 + minute)
          _ = Self.run(&table, [Add(key: key, minute: at, calls: 3)])
        }
      }
    }
    #expect(table.count == 64)
    let bytes = Self.bytes(table)
    let isRead = bytes.withUnsafeBytes {
      let read = BurstTable(settings: .init(maximumLicenses: 64), seed: 5, bytes: $0)
      return read != nil
    }
    #expect(isRead)
  }

  @Test("A license seen once costs at most 64 bytes, one with its whole past at most 370")
  func memory() {
    var table = BurstTable(settings: .init(maximumLicenses: 20_000), seed: 1)
    let keys = (0..<15_000).map { Array("lic_0123456789_\(10_000 + $0)".utf8) }
    for (index, key) in keys.enumerated() {
      _ = Self.run(&table, [Add(key: key, minute: Self.start, calls: 1)])
      if index > 1_000 { #expect(table.bytes <= 64 * table.count) }
    }
    for minute in 1..<4 {
      for key in keys {
        _ = Self.run(&table, [Add(key: key, minute: Self.start + Int32(minute), calls: 1)])
      }
    }
    #expect(table.bytes <= 370 * table.count)
  }

  @Test("Nothing traps at the ends of time and of numbers")
  func ends() {
    var table = BurstTable(seed: 1)
    let key = Array("x".utf8)
    for minute in [0, 5, .max, .min, -3, 29_000_000, .max, .max - 1] as [Int32] {
      for calls in [0, 1, -1, .max, .min] as [Int64] {
        _ = Self.run(&table, [Add(key: key, minute: minute, calls: calls)])
      }
    }
    let long = [UInt8](repeating: 1, count: 300)
    #expect(Self.run(&table, [Add(key: long, minute: 3, calls: 5)]).isEmpty)
    #expect(table.count == 1)
  }
}
