import AnomalyDetection
import ArgumentParser
import Glibc
import Recount

/// `meterctl backtest`: the detector over a recorded series, row by row.
struct Backtest: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Judge a series of timestamp,value rows: what would have been an anomaly, and what a burst?",
    discussion: """
      Reads CSV from standard input: a first line that names the columns `timestamp` and `value`, then a row a line, timestamps as \
      `YYYY-MM-DD HH:MM:SS` or RFC 3339. Writes each row with its anomaly_score in [0, 1] at once, by that row and those before it \
      alone; a score of \(SeriesDetector.threshold) or more is a detection.

      Every series is judged by the detector by which anomaly-detector watches totals; rows that are whole numbers at steps of a \
      minute also by the one by which it tells bursts of a license's calls. The larger score is written.

      --bursts and --usage write what would have been told, and nothing else: of a license with these calls a minute its bursts, \
      with their cool-down; of a meter or a customer with these calls a minute that they were too high, too low or had stopped, ten \
      minutes at a time, from the third day on, once when it begins.

      A row that cannot be read ends it with status 3 and the line's number; rows before it are written.

      Example: meterctl backtest --plot out.svg < series.csv > scores.csv
      """)

  @Flag(help: "Print the threshold and end.") var threshold = false
  @Flag(help: "Show only what would raise an alert about a license: bursts of calls.") var bursts =
    false
  @Flag(help: "Show only what would raise an alert about a total: too high, too low, stopped.")
  var usage = false
  @Option(help: "Also draw the series, the expected band and the detections to this SVG file.")
  var plot: String?

  func validate() throws {
    if bursts && usage { throw ValidationError("give --bursts or --usage, not both") }
  }

  func run() throws {
    if threshold {
      print(SeriesDetector.threshold)
      return
    }
    let lines = try LineReader(path: "/dev/stdin", maximumBytes: 4_096)
    guard let header = try row(lines), let columns = SeriesColumns(header) else {
      throw Failure(
        "line 1 must name the columns timestamp and value, such as: timestamp,value")
    }
    var detector = SeriesDetector()
    var calls = CallsAMinute()
    var totals = TenMinutes()
    var drawing: SeriesPlot? = plot == nil ? nil : SeriesPlot()
    try write("timestamp,value,anomaly_score\n")
    while let line = try row(lines) {
      if line.allSatisfy({ $0 == UInt8(ascii: " ") }) { continue }
      let (stamp, minute, text, value): (String, Int64, String, Double)
      do { (stamp, minute, text, value) = try columns.parse(line) } catch {
        throw Failure("line \(lines.number): \(error)")
      }
      let judgement: Judgement
      if usage {
        judgement = totals.observe(value, at: minute)
      } else {
        let burst = calls.observe(value, at: minute)
        judgement =
          bursts
          ? Judgement(burst)
          : Judgement(
            detector.observe(value, at: minute), burst: calls.areCalls ? burst.score : 0)
      }
      try write("\(stamp),\(text),\(judgement.score)\n")
      drawing?.add(stamp, value, judgement)
    }
    if let plot, let drawing { try drawing.write(to: plot) }
  }

  /// Without its line end; nil at the end of the input.
  private func row(_ lines: LineReader) throws -> ArraySlice<UInt8>? {
    switch try lines.next() {
    case nil: return nil
    case .tooLong: throw Failure("line \(lines.number) is longer than 4096 bytes")
    case .bytes(var bytes):
      if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
      return bytes
    }
  }

  /// Each line at once, not a block at a time: others read along.
  private func write(_ line: String) throws {
    var line = line
    try line.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)
      while !rest.isEmpty {
        let count = Glibc.write(STDOUT_FILENO, rest.baseAddress!, rest.count)
        if count < 0 {
          if errno == EINTR { continue }
          throw Failure("the output cannot be written: \(String(cString: strerror(errno)))")
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
    }
  }
}

/// What the detectors made of a row.
struct Judgement {
  let score: Double
  let expected: Double
  /// How far off most rows lie.
  let spread: Double
  var isDetection: Bool { score >= SeriesDetector.threshold }

  init(score: Double, expected: Double, spread: Double) {
    self.score = score
    self.expected = expected
    self.spread = spread
  }

  init(_ burst: BurstDetector.Judgement) {
    score = burst.score
    expected = burst.expected
    spread = burst.spread
  }

  init(_ series: SeriesDetector.Judgement, burst: Double) {
    score = max(series.score, burst)
    expected = series.expected
    spread = series.spread
  }
}

/// Calls a minute, summed and judged as the totals of a meter or a customer are. The row that ends ten
/// minutes has what is told of them.
struct TenMinutes {
  private var watch = UsageWatch()
  private var slot: Int64?
  private var calls = 0.0

  mutating func observe(_ value: Double, at minute: Int64) -> Judgement {
    let length = UsageWatch.rowMinutes
    let now = minute - ((minute % length) + length) % length
    // What is missing had no calls, as in the service; no more of it than two weeks.
    var told = false
    if let slot, now > slot {
      told = judge(slot)
      var empty = max(slot + length, now - 20_160)
      while empty < now {
        told = judge(empty) || told
        empty += length
      }
    }
    slot = max(slot ?? now, now)
    calls += max(value, 0)
    if minute - now == length - 1 {
      told = judge(now) || told
      slot = now + length
    }
    let band = watch.band(at: now)
    return Judgement(
      score: told ? SeriesDetector.threshold : 0, expected: band.expected / Double(length),
      spread: band.spread / Double(length))
  }

  private mutating func judge(_ slot: Int64) -> Bool {
    defer { calls = 0 }
    return watch.observe(calls, at: slot).map { !$0.hasEnded } ?? false
  }
}

/// The burst detector over rows, and whether they look like what it is made for. Of other rows it only costs false alarms.
struct CallsAMinute {
  private var detector = BurstDetector()
  private var last: Int64?
  private var rows = 0
  /// Whole numbers, the first of them a minute apart, none of them back in time.
  private(set) var areCalls = true

  mutating func observe(_ value: Double, at minute: Int64) -> BurstDetector.Judgement {
    let step = last.map { minute - $0 } ?? 1
    areCalls =
      areCalls && value >= 0 && value == value.rounded() && step >= 1
      && (rows > 1 || step == 1)
    last = minute
    rows += 1
    return detector.observe(value, at: minute)
  }
}

/// Where timestamp and value stand in a row.
struct SeriesColumns {
  struct Invalid: Error, CustomStringConvertible { let description: String }

  private let timestamp: Int
  private let value: Int

  init?(_ header: ArraySlice<UInt8>) {
    var bytes = header
    // A byte order mark, as spreadsheets write it.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
    let names = Self.fields(bytes)
    guard let timestamp = names.firstIndex(of: "timestamp"),
      let value = names.firstIndex(of: "value")
    else { return nil }
    self.timestamp = timestamp
    self.value = value
  }

  /// - Throws: `Invalid`, in words.
  /// - Returns: the timestamp, its minute since 1970, the value as it was written, and the value.
  func parse(_ line: ArraySlice<UInt8>) throws -> (String, Int64, String, Double) {
    let fields = Self.fields(line)
    guard fields.count > max(timestamp, value) else {
      throw Invalid(description: "too few columns")
    }
    let stamp = fields[timestamp]
    guard let minute = Self.minute(stamp) else {
      throw Invalid(description: "\"\(stamp)\" is no timestamp (YYYY-MM-DD HH:MM:SS or RFC 3339)")
    }
    guard let number = Double(fields[value]), number.isFinite else {
      throw Invalid(description: "\"\(fields[value])\" is no number")
    }
    return (stamp, minute, fields[value], number)
  }

  private static func fields(_ line: ArraySlice<UInt8>) -> [String] {
    line.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false).map { field in
      var text = Substring(String(decoding: field, as: UTF8.self))
      while text.first?.isWhitespace == true { text.removeFirst() }
      while text.last?.isWhitespace == true { text.removeLast() }
      if text.count >= 2, text.first == "\"", text.last == "\"" {
        text = text.dropFirst().dropLast()
      }
      return String(text)
    }
  }

  private static func minute(_ text: String) -> Int64? {
    // `YYYY-MM-DD HH:MM:SS` is RFC 3339 but for the blank and the zone.
    var rfc3339 = text
    if text.utf8.count == 19 { rfc3339 += "Z" }
    if text.utf8.count > 10, text.utf8.dropFirst(10).first == UInt8(ascii: " ") {
      rfc3339 = rfc3339.prefix(10) + "T" + rfc3339.dropFirst(11)
    }
    guard let milliseconds = millisecondsFromRFC3339(Array(rfc3339.utf8)) else { return nil }
    return (milliseconds - (milliseconds % 60_000 + 60_000) % 60_000) / 60_000
  }
}
