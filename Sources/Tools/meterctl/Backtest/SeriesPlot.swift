import AnomalyDetection
import Glibc

/// Draws a series, the band in which most rows were expected, and the detections as one SVG
/// picture. It holds all rows, because a picture needs their extremes.
struct SeriesPlot {
  private static let width = 1_200.0
  private static let height = 420.0
  private static let left = 70.0
  private static let top = 46.0
  private static let bottom = 40.0
  /// The columns of the picture. If there are more rows, each column shows its smallest and largest
  /// value.
  private static let columns = 1_100

  private var stamps: [String] = []
  private var values: [Double] = []
  private var bands: [(low: Double, high: Double)] = []
  private var detections: [Int] = []

  mutating func add(_ stamp: String, _ value: Double, _ judgement: Judgement) {
    if judgement.isDetection { detections.append(values.count) }
    stamps.append(stamp)
    values.append(value)
    bands.append(
      (judgement.expected - judgement.spread, judgement.expected + judgement.spread))
  }

  /// - Throws: `Failure` if the file cannot be written.
  func write(to path: String) throws {
    guard let file = fopen(path, "w") else {
      throw Failure("\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
    let text = svg()
    let written = fputs(text, file) >= 0
    guard fclose(file) == 0, written else { throw Failure("\(path) cannot be written") }
  }

  func svg() -> String {
    let low = values.min() ?? 0
    let high = max(values.max() ?? 1, low + 1e-9)
    let plotWidth = Self.width - Self.left - 20
    let plotHeight = Self.height - Self.top - Self.bottom
    func x(_ row: Int) -> Double {
      Self.left + Double(row) / Double(max(values.count - 1, 1)) * plotWidth
    }
    func y(_ value: Double) -> Double {
      let inside = min(max(value, low), high)
      return Self.top + (1 - (inside - low) / (high - low)) * plotHeight
    }
    func point(_ row: Int, _ value: Double) -> String {
      "\(Self.short(x(row))),\(Self.short(y(value)))"
    }
    let rows = chunks()
    let upper = rows.map { point($0.lowerBound, bands[$0].map(\.high).max()!) }
    let lower = rows.map { point($0.lowerBound, bands[$0].map(\.low).min()!) }
    let line = rows.flatMap { rows -> [String] in
      let least = rows.min { values[$0] < values[$1] }!
      let largest = rows.max { values[$0] < values[$1] }!
      return Set([least, largest]).sorted().map { point($0, values[$0]) }
    }
    let marks = detections.map { row in
      """
      <line x1="\(Self.short(x(row)))" x2="\(Self.short(x(row)))" y1="\(Self.top)" y2="\(Self.top + plotHeight)" class="mark"/>
      <circle cx="\(Self.short(x(row)))" cy="\(Self.short(y(values[row])))" r="4" class="dot"><title>\(Self.escaped(stamps[row])): \(values[row])</title></circle>
      """
    }
    let ticks = (0...4).map { n in
      let value = low + (high - low) * Double(n) / 4
      return """
        <text x="\(Self.left - 8)" y="\(Self.short(y(value) + 4))" text-anchor="end">\(Self.label(value))</text>
        <line x1="\(Self.left)" x2="\(Self.width - 20)" y1="\(Self.short(y(value)))" y2="\(Self.short(y(value)))" class="grid"/>
        """
    }
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Self.width) \(Self.height)" font-family="sans-serif" font-size="12">
      <style>.band{fill:#cfe3f5}.value{fill:none;stroke:#1f4e79;stroke-width:1}.mark{stroke:#c0392b;stroke-width:1;opacity:.5}.dot{fill:#c0392b}.grid{stroke:#ddd}</style>
      <rect width="100%" height="100%" fill="white"/>
      <text x="\(Self.left)" y="24" font-size="15">\(values.count) rows, \(detections.count) detections</text>
      <text x="\(Self.width - 20)" y="24" text-anchor="end">line: values, band: where most were expected, red: detections</text>
      \(ticks.joined(separator: "\n"))
      <polygon class="band" points="\((upper + lower.reversed()).joined(separator: " "))"/>
      <polyline class="value" points="\(line.joined(separator: " "))"/>
      \(marks.joined(separator: "\n"))
      <text x="\(Self.left)" y="\(Self.height - 14)">\(Self.escaped(stamps.first ?? ""))</text>
      <text x="\(Self.width - 20)" y="\(Self.height - 14)" text-anchor="end">\(Self.escaped(stamps.last ?? ""))</text>
      </svg>

      """
  }

  private func chunks() -> [Range<Int>] {
    let size = max(1, (values.count + Self.columns - 1) / Self.columns)
    return stride(from: 0, to: values.count, by: size).map { $0..<min($0 + size, values.count) }
  }

  private static func short(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

  /// Three significant digits.
  private static func label(_ value: Double) -> String {
    guard value != 0 else { return "0" }
    let digits = max(-9, min(9, 2 - Int(log10(abs(value)).rounded(.down))))
    let factor = pow(10, Double(digits))
    let rounded = (value * factor).rounded() / factor
    return abs(rounded) >= 1_000 && rounded == rounded.rounded() && abs(rounded) < 1e15
      ? Terminal.grouped(Int(rounded)) : "\(rounded)"
  }

  private static func escaped(_ text: String) -> String {
    text.map { $0 == "<" ? "&lt;" : $0 == "&" ? "&amp;" : String($0) }.joined()
  }
}
