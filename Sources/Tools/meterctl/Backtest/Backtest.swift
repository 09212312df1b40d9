import AnomalyDetection
import ArgumentParser
import Glibc
import Recount

/// `meterctl backtest`: runs the detector over a recorded series, row by row.
struct Backtest: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Find the anomalies and bursts in a series of timestamp,value rows.",
    discussion: """
      Reads CSV from standard input. The first line names the columns `timestamp` and `value`. \
      Each further line is a row, with timestamps as `YYYY-MM-DD HH:MM:SS` or RFC 3339. Each row \
      is written immediately with its anomaly_score in [0, 1], which depends only on that row and \
      those before it. A score of \(SeriesDetector.threshold) or more is a detection.

      Every series is judged by the detector with which anomaly-detector watches totals. Rows of \
      whole numbers at steps of a minute are also judged by the detector for bursts of a license's \
      calls. The larger score is written.

      --bursts and --usage write only what would raise alerts. --bursts treats the rows as the \
      calls per minute of a license, and writes its bursts, with their cool-down. --usage treats \
      them as the calls per minute of a meter or a customer, and writes when they begin to be too \
      high, too low or zero, in steps of ten minutes, from the third day on.

      If a row cannot be read, the command ends with status 3 and names the line. Rows before it \
      are written.

      Example: meterctl backtest --plot out.svg < series.csv > scores.csv
      """)

  @Flag(help: "Print the threshold and exit.") var threshold = false
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

  /// A line without its end; nil at the end of the input.
  private func row(_ lines: LineReader) throws -> ArraySlice<UInt8>? {
    switch try lines.next() {
    case nil: return nil
    case .tooLong: throw Failure("line \(lines.number) is longer than 4096 bytes")
    case .bytes(var bytes):
      if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
      return bytes
    }
  }

  /// Each line is written immediately instead of in blocks, because other programs may be reading.
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

/// The detectors' judgement of a row.
struct Judgement {
  let score: Double
  let expected: Double
  /// How far most rows are from the expectation.
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

/// Calls per minute, summed and judged like the totals of a meter or a customer. The last row of
/// ten minutes has the result.
struct TenMinutes {
  private var watch = UsageWatch()
  private var slot: Int64?
  private var calls = 0.0

  mutating func observe(_ value: Double, at minute: Int64) -> Judgement {
    let length = UsageWatch.rowMinutes
    let now = minute - ((minute % length) + length) % length
    // As in the service, a missing row counts as no calls, for at most two weeks.
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

/// The burst detector over rows, which also notes whether the rows are like those that it is made
/// for. On other rows it would only raise false alarms.
struct CallsAMinute {
  private var detector = BurstDetector()
  private var last: Int64?
  private var rows = 0
  /// Whether all values are whole numbers, the first rows are a minute apart, and no row goes back
  /// in time.
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

/// The positions of timestamp and value in a row.
struct SeriesColumns {
  struct Invalid: Error, CustomStringConvertible { let description: String }

  private let timestamp: Int
  private let value: Int

  init?(_ header: ArraySlice<UInt8>) {
    var bytes = header
    // Spreadsheets write a byte order mark.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
    let names = Self.fields(bytes)
    guard let timestamp = names.firstIndex(of: "timestamp"),
      let value = names.firstIndex(of: "value")
    else { return nil }
    self.timestamp = timestamp
    self.value = value
  }

  /// - Returns: the timestamp, its minute since 1970, the value as it was written, and the value.
  /// - Throws: `Invalid`, which says what is wrong.
  func parse(_ line: ArraySlice<UInt8>) throws -> (String, Int64, String, Double) {
    let fields = Self.fields(line)
    guard fields.count > max(timestamp, value) else {
      throw Invalid(description: "too few columns")
    }
    let stamp = fields[timestamp]
    guard let minute = Self.minute(stamp) else {
      throw Invalid(
        description: "\"\(stamp)\" is not a timestamp (YYYY-MM-DD HH:MM:SS or RFC 3339)")
    }
    guard let number = Double(fields[value]), number.isFinite else {
      throw Invalid(description: "\"\(fields[value])\" is not a number")
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
    // `YYYY-MM-DD HH:MM:SS` is RFC 3339 except for the space and the zone.
    var rfc3339 = text
    if text.utf8.count == 19 { rfc3339 += "Z" }
    if text.utf8.count > 10, text.utf8.dropFirst(10).first == UInt8(ascii: " ") {
      rfc3339 = rfc3339.prefix(10) + "T" + rfc3339.dropFirst(11)
    }
    guard let milliseconds = millisecondsFromRFC3339(Array(rfc3339.utf8)) else { return nil }
    return (milliseconds - (milliseconds % 60_000 + 60_000) % 60_000) / 60_000
  }
}
