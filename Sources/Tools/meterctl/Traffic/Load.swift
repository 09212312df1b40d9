import ArgumentParser
import Glibc
import KafkaTransport
import SystemRandom

struct Load: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Send generated usage events, for trials, measurements and tests.",
    discussion: """
      Events are for the licenses lic_00000000 and following, with the first ones most often. The \
      run is one producer: it numbers its events from 1, and reports every 10 s and at the end how \
      many it accepted, so that producer_ledger shows whether any were lost. Duplicates are the \
      same records sent again, up to 4,000 events later. Invalid events are garbage of every kind \
      that docs/event-validation.md refuses. Both are sent in addition to --events. While Kafka is \
      unavailable, the command waits. Ctrl-C or SIGTERM stops it: it delivers what is queued, \
      sends the last report and exits with status 0. A second signal ends it immediately. It needs \
      only METER_KAFKA_BROKERS.

      The summary has: accepted (valid events), sent (all records except reports), duplicates, \
      invalid, seconds, rate (records per second).

      Example: meterctl load --events 100000 --licenses 1000 --rate 5000 --duplicates 2 --invalid 1
      """)

  @Option(help: "The number of valid events.")
  var events: Int64

  @Option(help: "The number of licenses, up to 10,000,000.")
  var licenses = 1_000

  @Option(help: "Valid events per second. 0 means as fast as possible.")
  var rate = 0.0

  @Option(help: ArgumentHelp("Events to send twice, in percent.", valueName: "pct"))
  var duplicates = 0.0

  @Option(
    help: ArgumentHelp("Invalid events to add, in percent of the valid ones.", valueName: "pct"))
  var invalid = 0.0

  @Option(help: "The same seed makes the same events, except their times (default: random).")
  var seed: UInt64?

  @Option(
    help: ArgumentHelp(
      "The producer's name (default: a new one). A name that was used before does not "
        + "continue its sequence, so its events count as duplicates.", valueName: "name"))
  var producer: String?

  @Option(help: "Spread the events' times over this many minutes up to now, oldest first.")
  var minutes = 1

  @Option(
    help: "How unevenly licenses are used: 0 evenly, 1 like word frequencies (Zipf), at most 2.")
  var skew = 0.8

  @Flag(
    name: .customLong("report"), inversion: .prefixedNo,
    help: "Report what was accepted. Without reports the ledger cannot show missing events.")
  var report = true

  @Flag(inversion: .prefixedNo, help: "Send a final report at the end.")
  var final = true

  @OptionGroup var output: OutputOptions

  func validate() throws {
    func check(_ condition: Bool, _ text: String) throws {
      if !condition { throw ValidationError(text) }
    }
    try check(
      (1...1_000_000_000_000).contains(events), "--events must be from 1 to 1,000,000,000,000")
    try check((1...10_000_000).contains(licenses), "--licenses must be from 1 to 10,000,000")
    try check((0...100_000_000).contains(rate), "--rate must be from 0 to 100,000,000")
    try check((0...100).contains(duplicates), "--duplicates: 0 to 100 percent")
    try check((0...100).contains(invalid), "--invalid: 0 to 100 percent")
    try check(
      (1...50_000).contains(minutes),
      "--minutes: 1 to 50,000 (events older than 35 days are refused)")
    try check((0...2).contains(skew), "--skew: 0 to 2")
    if let producer {
      let isPlain = producer.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
          || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
      }
      try check(
        isPlain && (1...256).contains(producer.utf8.count),
        "--producer: 1 to 256 letters, digits, - . _")
    }
  }

  func run() throws {
    Interrupt.install()
    let progress = Progress("Sending", unit: "events", total: events)
    let sender = try EventSender(
      Connections().kafka(), topic: Connections.usageTopic, command: "load", progress: progress)
    let name = producer ?? "load-" + SystemRandom.base36()
    var run = LoadRun(self, producer: name, progress: progress)
    if let sender { try run.send(sender) }
    progress.finish(run.accepted)
    output.print(run.summary, text: run.text)
    if let sender, sender.failedEvents > 0 {
      throw Failure(
        """
        the brokers refused \(sender.failedEvents) events for good\
        \(sender.firstError.map { ", the first with: \($0)" } ?? "")
        """)
    }
  }
}

/// One run: its pace, what is sent again, and what is reported.
private struct LoadRun {
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
    var pace = Pace(rate: command.rate, begin: begin)
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

/// The number of events that are due by now at a given rate. After a stall of more than a second,
/// the missed events are not made up for.
private struct Pace {
  let rate: Double
  var now: UInt64
  private var origin: UInt64
  private var base: Int64 = 0

  init(rate: Double, begin: UInt64) {
    self.rate = rate
    now = begin
    origin = begin
  }

  mutating func due(_ done: Int64) -> Int64 {
    guard rate > 0 else { return .max }
    let due = base + Int64(Double(now - origin) / 1e9 * rate) - done
    if Double(due) > rate + 1_000 {
      origin = now
      base = done
      return 0
    }
    return max(0, due)
  }

  /// The time until the next event is due. It is at least 1 ms, so that a turn of the loop is worth
  /// it, and at most 100.
  func waitMilliseconds(_ done: Int64) -> Int32 {
    let at = Double(done + 1 - base) / rate
    let left = at - Double(now - origin) / 1e9
    return Int32(min(100, max(1, (left * 1_000).rounded(.up))))
  }
}

/// Records that will be sent again, each in the slot of the event after which it is due.
private struct Echoes {
  struct Echo {
    let key = EventBytes(capacity: 64)
    let value = EventBytes(capacity: 2_048)
  }

  /// More than the longest delay. A slot beyond that would belong to a later event.
  private static let slots = 4_096
  private var echoes: [Echo?] = Array(repeating: nil, count: slots)
  private var isSet = [Bool](repeating: false, count: slots)
  private var count = 0

  /// Takes the nearest free slot, beginning at the delay. If there is none in the window, the echo
  /// is dropped.
  mutating func add(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, at sequence: UInt64,
    after delay: Int
  ) {
    for shift in 0..<Self.slots {
      // 1 … slots − 1 after `sequence`. The slot of `sequence` itself is emptied right afterwards.
      let distance = 1 + (delay - 1 + shift) % (Self.slots - 1)
      let slot = Int((sequence + UInt64(distance)) % UInt64(Self.slots))
      if isSet[slot] { continue }
      let echo = echoes[slot] ?? Echo()
      echo.key.removeAll()
      echo.key.append(key)
      echo.value.removeAll()
      echo.value.append(value)
      echoes[slot] = echo
      isSet[slot] = true
      count += 1
      return
    }
  }

  @inline(__always)
  mutating func due(at sequence: UInt64) -> Echo? {
    let slot = Int(sequence % UInt64(Self.slots))
    guard isSet[slot] else { return nil }
    isSet[slot] = false
    count -= 1
    return echoes[slot]
  }

  /// Takes the remaining echoes at the end, in any order.
  mutating func takeAny() -> Echo? {
    guard count > 0, let slot = isSet.firstIndex(of: true) else { return nil }
    isSet[slot] = false
    count -= 1
    return echoes[slot]
  }
}
