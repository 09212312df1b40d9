import CChecksum
import EventCodec
import Foundation
import MeteringTestKit
import Testing

@testable import EventPublisher

struct SpoolTests {
  static let segmentBytes = 256 << 10

  static func open(
    _ folder: TemporaryFolder, maximumBytes: Int = 8 << 20, segmentBytes: Int = segmentBytes
  ) throws -> Spool {
    try Spool(
      directory: folder.spool, maximumBytes: maximumBytes, segmentBytes: segmentBytes,
      producerPrefix: "p")
  }

  /// The ids and sequences of pending events, as a sender would read them.
  static func pending(_ spool: Spool) -> [(id: String, sequence: Int64)] {
    var position = spool.firstPending
    var found: [(String, Int64)] = []
    while let window = spool.window(from: position) {
      var offset = window.start
      reading: while offset < window.end {
        guard case .record(let record) = window.segment.read(at: offset, verify: false) else {
          position = Spool.Position(segment: window.segment.number + 1, offset: 0)
          break reading
        }
        let text = String(decoding: record.value, as: UTF8.self)
        found.append((String(text.split(separator: "\"")[7]), record.sequence))
        offset = record.end
        position = Spool.Position(segment: window.segment.number, offset: offset)
      }
    }
    return found
  }

  /// The file that has segment 1, because spares are made after it.
  static func firstFile(_ folder: TemporaryFolder) -> String { Spool.path(folder.spool, 1) }

  static func add(_ spool: Spool, _ range: Range<Int>) {
    for n in range {
      let outcome = spool.append(
        UsageEvent(id: "e\(n)", source: "/s", subject: "lic"), now: 1_764_009_600_000)
      #expect(outcome == .accepted)
    }
  }

  @Test("The checksum is CRC-32C, whatever pieces the bytes come in")
  func checksum() {
    let digits = Array("123456789".utf8)
    #expect(meter_crc32c(0, digits, 9) == 0xE306_9283)
    #expect(meter_crc32c(meter_crc32c(0, digits, 4), Array(digits[4...]), 5) == 0xE306_9283)
    #expect(meter_crc32c(0, [UInt8](repeating: 0, count: 32), 32) == 0x8A91_36AA)
  }

  @Test("The next process reads several segments in order, and continues with higher sequences")
  func reopened() throws {
    let folder = try TemporaryFolder()
    var spool: Spool? = try Self.open(folder)
    let name = spool?.producer
    for n in 0..<5 {
      Self.add(spool!, n * 1_000..<n * 1_000 + 1_000)
      spool!.prepare()
    }
    spool = nil
    spool = try Self.open(folder)
    #expect(spool?.producer == name)
    #expect(spool?.recovery == Spool.Recovery(pending: 5_000, lost: 0, damaged: []))
    Self.add(spool!, 5_000..<5_100)
    let pending = Self.pending(spool!)
    #expect(pending.map(\.id) == (0..<5_100).map { "e\($0)" })
    #expect(zip(pending, pending.dropFirst()).allSatisfy { $0.sequence < $1.sequence })
    #expect(spool?.counts(0) == Spool.Counts(accepted: 5_100, pending: 5_100, dropped: 0))
  }

  @Test("Delivered segments are freed and used again; what is delivered is not read again")
  func freed() throws {
    let folder = try TemporaryFolder()
    var spool: Spool? = try Self.open(folder, maximumBytes: 1 << 20)
    var position = spool!.firstPending
    for round in 0..<30 {
      Self.add(spool!, round * 500..<round * 500 + 500)
      while let window = spool!.window(from: position) {
        var offset = window.start
        var read: Int64 = 0
        while offset < window.end,
          case .record(let record) = window.segment.read(at: offset, verify: true)
        {
          offset = record.end
          read += 1
        }
        position = Spool.Position(segment: window.segment.number, offset: offset)
        spool!.delivered(to: position, counts: [read, 0], unsendable: [0, 0])
        spool!.prepare()
        if window.end == .max {
          position = Spool.Position(segment: window.segment.number + 1, offset: 0)
        }
      }
    }
    #expect(spool!.counts(0) == Spool.Counts(accepted: 15_000, pending: 0, dropped: 0))
    Self.add(spool!, 15_000..<15_003)
    spool = nil
    spool = try Self.open(folder, maximumBytes: 1 << 20)
    #expect(Self.pending(spool!).map(\.id) == ["e15000", "e15001", "e15002"])
    #expect(spool!.counts(0) == Spool.Counts(accepted: 15_003, pending: 3, dropped: 0))
  }

  @Test(
    "Whichever byte of the spool changes, only written events are read, the rest is counted and kept"
  )
  func bitFlips() throws {
    let folder = try TemporaryFolder()
    // There are two segments, with six events and two.
    func open() throws -> Spool {
      try Self.open(folder, maximumBytes: 8 * 2_048, segmentBytes: 2_048)
    }
    var spool: Spool? = try open()
    Self.add(spool!, 0..<8)
    spool = nil
    let intact = try Self.files(folder)
    let state = try Data(contentsOf: URL(fileURLWithPath: folder.spool + "/state"))
    let all = (0..<8).map { "e\($0)" }
    for number: UInt64 in [1, 2] {
      let path = try #require(intact.first { Self.number($0.value) == number }?.key)
      let telling = Self.telling(intact[path]!)
      for place in stride(from: 0, to: telling.count, by: 3).map({ telling[$0] }) {
        var changed = intact
        changed[path]![place] ^= 1 << UInt8(place % 8)
        try Self.restore(folder, changed, state)
        let spool = try open()
        let ids = Self.pending(spool).map(\.id)
        #expect(ids.filter { all.contains($0) } == ids, "at \(place)")
        #expect(ids.count < 8, "at \(place)")
        #expect(ids.starts(with: number == 1 ? [] : all[..<6]), "at \(place)")
        #expect(ids.count + Int(spool.recovery.lost) == 8, "at \(place): \(spool.recovery)")
        #expect(spool.recovery.damaged.count == 1, "at \(place)")
        #expect(
          spool.counts(0)
            == Spool.Counts(accepted: 8, pending: Int64(ids.count), dropped: 8 - Int64(ids.count)))
        // The spool goes on, and the next process finds nothing more to report.
        Self.add(spool, 8..<9)
      }
    }
    spool = try open()
    #expect(spool?.recovery.lost == 0 && spool?.recovery.damaged == [])
    #expect(Self.pending(spool!).last?.id == "e8")
  }

  /// The segments by their paths.
  private static func files(_ folder: TemporaryFolder) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.spool)
    where name.hasSuffix(".seg") {
      let path = folder.spool + "/" + name
      files[path] = try Data(contentsOf: URL(fileURLWithPath: path))
    }
    return files
  }

  private static func number(_ segment: Data) -> UInt64 {
    segment.withUnsafeBytes { $0.load(fromByteOffset: 8, as: UInt64.self) }
  }

  /// The places of all bytes up to the end of the last record. Bytes that pad records to eight
  /// bytes are left out, because they mean nothing.
  private static func telling(_ segment: Data) -> [Int] {
    segment.withUnsafeBytes { bytes in
      var places = Array(0..<Segment.headerBytes)
      var offset = Segment.headerBytes
      while true {
        let length = Int(bytes.load(fromByteOffset: offset, as: UInt32.self))
        if length == 0 { return places }
        places += offset..<offset + Segment.frameBytes + length
        offset = (offset + Segment.frameBytes + length + 7) & ~7
      }
    }
  }

  private static func restore(
    _ folder: TemporaryFolder, _ files: [String: Data], _ state: Data
  ) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.spool)
    where name.contains(".seg") {
      try FileManager.default.removeItem(atPath: folder.spool + "/" + name)
    }
    for (path, bytes) in files { try bytes.write(to: URL(fileURLWithPath: path)) }
    try state.write(to: URL(fileURLWithPath: folder.spool + "/state"))
  }

  @Test("Processes that start and end again and again do not make the spool grow")
  func restarts() throws {
    let folder = try TemporaryFolder()
    for life in 0..<40 {
      let spool = try Self.open(folder, maximumBytes: 1 << 20)
      Self.add(spool, life..<life + 1)
      #expect(spool.bytes <= 1 << 20)
    }
    #expect(try Self.files(folder).count <= 4)
    let spool = try Self.open(folder, maximumBytes: 1 << 20)
    let pending = Self.pending(spool)
    #expect(pending.map(\.id) == (0..<40).map { "e\($0)" })
    // A machine that lost its last seconds must not use a number twice. Each start therefore begins
    // above every number that could have been used.
    #expect(zip(pending, pending.dropFirst()).allSatisfy { $1.sequence - $0.sequence >= 1 << 24 })
  }

  @Test("A segment's number is never used again, even if the segment is gone")
  func numbers() throws {
    let folder = try TemporaryFolder()
    var spool: Spool? = try Self.open(folder)
    Self.add(spool!, 0..<10)
    let window = try #require(spool!.window(from: spool!.firstPending))
    var offset = window.start
    for _ in 0..<5 {
      guard case .record(let record) = window.segment.read(at: offset, verify: true) else { break }
      offset = record.end
    }
    spool!.delivered(
      to: Spool.Position(segment: 1, offset: offset), counts: [5, 0], unsendable: [0, 0])
    spool = nil
    for path in try Self.files(folder).keys { try FileManager.default.removeItem(atPath: path) }
    spool = try Self.open(folder)
    #expect(spool?.recovery.lost == 5)
    Self.add(spool!, 20..<30)
    spool = nil
    // If the segment's number were 1 again, its records before the old place would count as
    // delivered.
    spool = try Self.open(folder)
    #expect(Self.pending(spool!).map(\.id) == (20..<30).map { "e\($0)" })
  }

  @Test("Wherever the last append was torn, everything before it is there")
  func torn() throws {
    let folder = try TemporaryFolder()
    var spool: Spool? = try Self.open(folder)
    Self.add(spool!, 0..<3)
    spool = nil
    let path = Self.firstFile(folder)
    let segment = try Data(contentsOf: URL(fileURLWithPath: path))
    let state = try Data(contentsOf: URL(fileURLWithPath: folder.spool + "/state"))
    let length = Int(segment.withUnsafeBytes { $0.load(fromByteOffset: 64, as: UInt32.self) }) + 8
    let third = 64 + 2 * ((length + 7) & ~7)
    for kept in third..<third + length {
      var cut = segment
      cut.resetBytes(in: kept..<cut.count)
      for name in try FileManager.default.contentsOfDirectory(atPath: folder.spool)
      where name.contains(".seg") {
        try FileManager.default.removeItem(atPath: folder.spool + "/" + name)
      }
      try cut.write(to: URL(fileURLWithPath: path))
      try state.write(to: URL(fileURLWithPath: folder.spool + "/state"))
      let spool = try Self.open(folder)
      #expect(Self.pending(spool).map(\.id) == ["e0", "e1"], "kept \(kept)")
      // Its append had returned, as the counter shows.
      #expect(spool.recovery.lost == 1)
    }
  }

  @Test("Without room for files it says so, and once there is room it continues")
  func fullDisk() throws {
    let folder = try TemporaryFolder()
    guard geteuid() == 0,
      (try? Command.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder.path])) != nil
    else { return }
    defer { try? Command.run(["umount", "-l", folder.path]) }
    let filler = folder.path + "/filler"
    try Data(count: 300 << 10).write(to: URL(fileURLWithPath: filler))
    let spool = try Self.open(folder)
    var accepted = 0
    while spool.append(
      UsageEvent(id: "e\(accepted)", source: "/s", subject: "lic"), now: 0) == .accepted
    {
      accepted += 1
      spool.prepare()
    }
    #expect(spool.prepare() == .system("allocate a segment", ENOSPC))
    try FileManager.default.removeItem(atPath: filler)
    // One segment fits again, but there is no room yet for spares.
    spool.prepare()
    Self.add(spool, accepted..<accepted + 100)
    #expect(Self.pending(spool).map(\.id) == (0..<accepted + 100).map { "e\($0)" })
  }

  @Test("Every text is written so that both readers of the log read it back")
  func encoding() throws {
    var random = SeededRandom(of: "publisher encoding")
    let scalars: [Unicode.Scalar] = ["a", "\"", "\\", "/", "\n", "\u{1}", "\u{7F}", "é", "日", "🎉"]
    var encoder = EventEncoder()
    var decoder = EventDecoder()
    for n in 0..<2_000 {
      func text(_ lengths: ClosedRange<Int>) -> String {
        var text = String.UnicodeScalarView()
        for _ in 0..<Int.random(in: lengths, using: &random) {
          text.append(scalars.randomElement(using: &random) ?? "a")
        }
        return String(text)
      }
      let event = UsageEvent(
        id: n % 3 == 0 ? nil : text(1...40), source: text(1...40), subject: text(1...40),
        meter: "m_\(n)", quantity: .random(in: 0...1_000_000_000, using: &random),
        domain: n % 2 == 0 ? nil : text(0...100), feature: text(0...30),
        time: .random(in: -62_135_596_800_000...253_402_300_799_999, using: &random))
      #expect(encoder.encode(event, producer: "p-1", sequence: Int64(n), now: 0) == nil)
      let bytes = Array(encoder.bytes)
      let key = Array(event.subject.utf8)
      let (found, why) = ReadEvent.read(key: key, value: bytes)
      guard let read = found else {
        Issue.record("\(why): \(String(decoding: bytes, as: UTF8.self))")
        continue
      }
      #expect(read.id == event.id ?? "p-1-\(n)" && read.source == event.source)
      #expect(read.subject == event.subject && read.meter == event.meter)
      #expect(read.quantity == event.quantity && read.sequence == Int64(n))
      #expect(read.time == event.time && read.producer == "p-1")
      #expect(read.feature ?? "" == event.feature)
      let isUsage = bytes.withUnsafeBytes { value in
        key.withUnsafeBytes { key in
          decoder.decode(RecordBytes(value: value, key: key, timestamp: -1)).kind == .usage
        }
      }
      #expect(isUsage)
      decoder.reset()
    }
  }

  @Test
  func `An event's trace is written for both readers, and an invalid one is left out`() throws {
    var encoder = EventEncoder()
    var decoder = EventDecoder()
    let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"
    let cases: [(String?, String?)] = [
      (nil, nil), ("00-\(id)-01", "00-\(id)-01"), ("01-\(id)-01-x", "00-\(id)-01"), ("", nil),
      ("00-\(id)-01\",\"data\":{}", nil), ("00-\(id)-01, 00-\(id)-01", nil),
      (String(repeating: "0", count: 100_000), nil),
    ]
    for (given, written) in cases {
      let event = UsageEvent(source: "/s", subject: "lic", time: 0, traceparent: given)
      #expect(encoder.encode(event, producer: "p", sequence: 1, now: 0) == nil)
      let bytes = Array(encoder.bytes)
      let key = Array("lic".utf8)
      let (found, why) = ReadEvent.read(key: key, value: bytes)
      #expect(found?.traceparent == written && found?.sequence == 1, "\(why)")
      bytes.withUnsafeBytes { value in
        key.withUnsafeBytes { key in
          let decoded = decoder.decode(RecordBytes(value: value, key: key, timestamp: -1))
          #expect(decoded.traceparent.isAbsent == (written == nil))
          if let written { #expect(decoded.traceparent.string == written) }
        }
      }
      let validation = ValidationEvent(
        source: "/s", subject: "lic", code: "valid", isValid: true, time: 0, traceparent: given)
      #expect(encoder.encode(validation, producer: "p", sequence: 1, now: 0) == nil)
      let text = String(decoding: encoder.bytes, as: UTF8.self)
      #expect(text.contains("traceparent") == (written != nil))
      #expect(written.map { text.contains("\"traceparent\":\"\($0)\"") } ?? true)
    }
  }

  @Test("An event that breaks the contract is named, and never written")
  func invalid() {
    var encoder = EventEncoder()
    func reason(_ change: (inout UsageEvent) -> Void) -> PublishOutcome.Reason? {
      var event = UsageEvent(source: "/s", subject: "lic")
      change(&event)
      return encoder.encode(event, producer: "p", sequence: 1, now: 0)
    }
    #expect(reason { _ in } == nil)
    #expect(reason { $0.subject = "" } == .subject)
    #expect(reason { $0.subject = String(repeating: "a", count: 513) } == .subject)
    #expect(reason { $0.source = "" } == .source)
    #expect(reason { $0.id = "" } == .id)
    #expect(reason { $0.id = String(repeating: "a", count: 1_025) } == .id)
    #expect(reason { $0.meter = "Api" } == .meter)
    #expect(reason { $0.meter = "1a" } == .meter)
    #expect(reason { $0.quantity = -1 } == .quantity)
    #expect(reason { $0.quantity = 1_000_000_001 } == .quantity)
    #expect(reason { $0.time = .max } == .time)
    #expect(reason { $0.domain = "a\u{0}b" } == .text)
    // The longest possible record still fits.
    let worst = String(repeating: "\u{1}", count: 1_024)
    #expect(
      reason {
        $0.id = worst
        $0.source = worst
        $0.subject = String(repeating: "\u{1}", count: 512)
        $0.domain = worst
        $0.feature = worst
      } == nil)
    #expect(encoder.bytes.count < EventEncoder.capacity)
  }

  @Test
  func `What strangers can cause without end leaves room for usage`() throws {
    let folder = try TemporaryFolder()
    let spool = try Self.open(folder, maximumBytes: 2 << 20)
    func take(_ event: some Spool.Event) -> PublishOutcome {
      let outcome = spool.append(event, now: 1_764_009_600_000)
      spool.prepare()
      return outcome
    }
    func fill(_ event: some Spool.Event) -> Int {
      var bytes = 0
      while bytes < 4 << 20, take(event) == .accepted { bytes += 256 }
      return bytes
    }
    func validation(_ code: String) -> ValidationEvent {
      ValidationEvent(
        source: "/s", subject: "lic", code: code, isValid: code == "valid",
        domain: String(repeating: "d", count: 200))
    }
    let usage = UsageEvent(source: "/s", subject: "lic")
    #expect(fill(validation("not_found")) > 0)
    #expect(take(validation("invalid_signature")) == .dropped)
    #expect(take(validation("valid")) == .accepted && take(usage) == .accepted)
    #expect(fill(validation("domain_mismatch")) > 0)
    #expect(take(validation("valid")) == .dropped && take(usage) == .accepted)
    // Half of the spool is left for usage.
    var accepted = 0
    while take(usage) == .accepted { accepted += 1 }
    #expect(accepted * 400 > 512 << 10, "\(accepted)")
    #expect(spool.counts(0).dropped == 1 && spool.counts(1).dropped == 4)
  }

  @Test
  func `A spool's directory that others can write to or replace is refused`() throws {
    let folder = try TemporaryFolder()
    func refusal(_ directory: String) -> String? {
      do throws(SpoolError) {
        _ = try Spool(
          directory: directory, maximumBytes: 8 << 20, segmentBytes: Self.segmentBytes,
          producerPrefix: "p")
        return nil
      } catch {
        return error.description
      }
    }
    let open = folder.path + "/open"
    #expect(mkdir(open, 0o700) == 0 && chmod(open, 0o777) == 0)
    #expect(refusal(open)?.contains("mode 777") == true)
    #expect(chmod(open, 0o1777) == 0)
    #expect(refusal(open)?.contains("chmod 700") == true)
    #expect(refusal(open + "/inside") == nil)
    let link = folder.path + "/link"
    #expect(symlink(open + "/inside", link) == 0)
    for path in [link, link + "/", link + "//"] {
      #expect(refusal(path)?.contains("symbolic link") == true, "\(path)")
    }
    #expect(symlink(folder.path + "/nowhere", folder.path + "/dangling") == 0)
    #expect(refusal(folder.path + "/dangling")?.contains("symbolic link") == true)
    let file = folder.path + "/file"
    #expect(FileManager.default.createFile(atPath: file, contents: nil))
    #expect(refusal(file)?.contains("not a directory") == true)
    // Its files must not be links to somewhere else either.
    for name in ["lock", "state", "00000000000000000007.seg"] {
      let directory = folder.path + "/with-" + name
      #expect(mkdir(directory, 0o700) == 0 && symlink(file, directory + "/" + name) == 0)
      #expect(refusal(directory) != nil, "\(name)")
    }
  }
}
