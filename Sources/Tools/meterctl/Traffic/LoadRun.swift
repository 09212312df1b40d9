import Glibc
import SystemRandom

/// One run: its pace, what is sent again, and what is reported.
struct LoadRun {
  private(set) var accepted: Int64 = 0
  private var duplicates: Int64 = 0
  private var invalid: Int64 = 0
  private var seconds = 0.0

  private let command: Load
  private let producer: String
  private let progress: Progress
  private let generator: LoadGenerator
  private var garbage: SeededNumbers
  private var echoes = Echoes()
  private let reportBytes = EventBytes(capacity: 4_096)
  private var reports: UInt64 = 0

  private static let reportNanoseconds: UInt64 = 10_000_000_000

  init(_ command: Load, producer: String, progress: Progress) {
    self.command = command
    self.producer = producer
    self.progress = progress
    let seed = command.seed ?? SystemRandom.word()
    generator = LoadGenerator(
      seed: seed, licenses: command.licenses, skew: command.skew, producerName: producer)
    garbage = SeededNumbers(seed: ~seed)
  }

  private var sent: Int64 { accepted + duplicates + invalid }
  private var rate: Double { seconds > 0 ? Double(sent) / seconds : 0 }

  var summary: JSON {
    [
      "producer": .text(producer), "accepted": .integer(accepted), "sent": .integer(sent),
      "duplicates": .integer(duplicates), "invalid": .integer(invalid),
      "seconds": .number((seconds * 1_000).rounded() / 1_000),
      "rate": .number((rate * 10).rounded() / 10),
    ]
  }

  var text: String {
    """
    \(producer): \(Terminal.grouped(accepted)) events accepted; \(Terminal.grouped(sent)) records sent, \
    of them \(Terminal.grouped(duplicates)) duplicates and \(Terminal.grouped(invalid)) invalid; \
    \((seconds * 10).rounded() / 10) s, \(Terminal.grouped(Int64(rate)))/s
    """
  }

  mutating func send(_ sender: EventSender) throws {
    let begin = Self.monotonic()
    defer { seconds = Double(Self.monotonic() - begin) / 1e9 }
    var pace = LoadPace(rate: command.rate, begin: begin)
    var nextReport = begin + Self.reportNanoseconds
    let startTime = Moment.now.milliseconds
    let spread = Int64(command.minutes - 1) * 60_000
    while accepted < command.events, !Interrupt.isRequested {
      // The clock and the acknowledgements are checked once for each stretch, not for each event.
      let stretch = min(256, command.events - accepted, pace.due(accepted))
      let wall = Moment.now.milliseconds
      if stretch == 0 { try sender.poll(milliseconds: pace.waitMilliseconds(accepted)) }
      for _ in 0..<stretch {
        // The time moves from `spread` ago to now, with the progress of the run.
        let back =
          spread == 0
          ? 0 : spread - Int64(Double(spread) * Double(accepted) / Double(command.events))
        let time = spread == 0 ? wall : startTime - back
        guard try one(sender, time: time, wall: wall) else { break }
      }
      let now = Self.monotonic()
      pace.now = now
      if stretch == 256 || now & 0xF == 0 { try sender.poll() }
      progress.update(accepted, note: sender.note)
      if now >= nextReport {
        nextReport = now + Self.reportNanoseconds
        try report(sender, isFinal: false)
      }
    }
    while let echo = echoes.takeAny() {
      guard try sender.send(.other, key: echo.key.bytes, value: echo.value.bytes) else { break }
      duplicates += 1
    }
    let total = accepted
    try sender.flush { progress.update(total, note: sender.note) }
    if command.final {
      try report(sender, isFinal: true)
      try sender.flush { progress.update(total, note: sender.note) }
    }
  }

  /// Sends one valid event, and what goes with it.
  /// - Returns: false if it was interrupted.
  private mutating func one(_ sender: EventSender, time: Int64, wall: Int64) throws -> Bool {
    let sequence = UInt64(accepted) + 1
    generator.make(sequence: sequence, time: time)
    guard try sender.send(.event, key: generator.key.bytes, value: generator.event.bytes) else {
      return false
    }
    accepted += 1
    if command.duplicates > 0 {
      if generator.happens(command.duplicates) {
        echoes.add(
          generator.key.bytes, generator.event.bytes, at: sequence,
          after: 1 + generator.below(4_000))
      }
      if let echo = echoes.due(at: sequence) {
        guard try sender.send(.other, key: echo.key.bytes, value: echo.value.bytes) else {
          return false
        }
        duplicates += 1
      }
    }
    if command.invalid > 0, garbage.unit() * 100 < command.invalid {
      guard try sendGarbage(sender, wall: wall) else { return false }
    }
    return true
  }

  private mutating func sendGarbage(_ sender: EventSender, wall: Int64) throws -> Bool {
    let record = Garbage.record(
      kind: Int(invalid) % Garbage.kinds, random: garbage.next(), now: wall)
    let isSent = try record.key.withUnsafeBytes { key in
      switch record.value {
      case .tombstone: try sender.send(.other, key: key, value: nil)
      case .bytes(let bytes):
        try bytes.withUnsafeBytes { try sender.send(.other, key: key, value: $0) }
      }
    }
    if isSent { invalid += 1 }
    return isSent
  }

  private mutating func report(_ sender: EventSender, isFinal: Bool) throws {
    guard command.report else { return }
    reports += 1
    // Events that were passed to Kafka since then are in both numbers or in neither, because this
    // thread does both.
    let report = ProducerReport(
      producer: producer, source: "/load/\(producer)", id: "report-\(reports)", accepted: accepted,
      pending: accepted - sender.acknowledgedEvents - sender.failedEvents,
      dropped: sender.failedEvents, isFinal: isFinal)
    report.write(to: reportBytes, now: Moment.now.milliseconds)
    _ = try Array(producer.utf8).withUnsafeBytes {
      try sender.send(.other, key: $0, value: reportBytes.bytes)
    }
  }

  static func monotonic() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
