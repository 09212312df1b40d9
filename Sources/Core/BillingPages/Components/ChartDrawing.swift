/// Draws a chart as SVG without scripts or its own styles. The page's style sheet sets the colors,
/// so that they follow light, dark and print.
struct ChartDrawing {
  struct Size {
    let name: String
    let width: Int64
    let height: Int64
    let labels: Int

    static let wide = Size(name: "wide", width: 960, height: 260, labels: 8)
    static let narrow = Size(name: "narrow", width: 360, height: 220, labels: 3)
  }

  /// If there are more bars than this, they are drawn as one path without titles and links.
  private static let singleBars = 120

  let chart: Chart
  let size: Size
  let context: PageContext

  private let left: Int64 = 46
  private let right: Int64 = 14
  private let top: Int64 = 20
  private let bottom: Int64 = 26

  init(chart: Chart, size: Size, context: PageContext) {
    self.chart = chart
    self.size = size
    self.context = context
  }

  private var plotWidth: Int64 { size.width - left - right }
  private var plotHeight: Int64 { size.height - top - bottom }
  private var floor: Int64 { top + plotHeight }

  var svg: String {
    let label = HTMLText.escape("\(chart.title): \(Wording.number(chart.total)) \(chart.unit)")
    var parts = [
      "<svg class=\"\(size.name)\" viewBox=\"0 0 \(size.width) \(size.height)\" role=\"group\""
        + " aria-label=\"\(label)\">"
    ]
    parts.append(grid)
    switch chart.style {
    case .bars: parts.append(bars)
    case .cumulative: parts += [projection, line]
    }
    parts += [limit, marks, timeLabels, "</svg>"]
    return parts.joined()
  }

  // MARK: Scales

  /// The top of the scale: a round number that is at least as large as everything drawn.
  private var ceiling: Int64 {
    var highest: Int64 = 1
    switch chart.style {
    case .bars:
      for point in chart.points { highest = max(highest, point.value, point.previous ?? 0) }
    case .cumulative:
      highest = max(highest, chart.total, chart.projection?.high ?? 0)
      // A limit that is far away would press the line to the floor. It is then only named.
      if let limit = chart.limit, limit / 4 <= highest { highest = max(highest, limit) }
    }
    return Self.round(highest)
  }

  /// The next round number: one of these tenths times a power of ten.
  static func round(_ value: Int64) -> Int64 {
    var power = Int128(1)
    while power * 10 <= Int128(value) { power *= 10 }
    for tenths in [Int128(10), 12, 16, 20, 24, 30, 40, 50, 60, 80]
    where (power * tenths) % 10 == 0 && power * tenths / 10 >= Int128(value) {
      return Int64(clamping: power * tenths / 10)
    }
    return Int64(clamping: power * 10)
  }

  /// In hundredths of a unit of the drawing.
  private func x(_ time: Int64) -> Decimal2 {
    let span = Int128(chart.to) - Int128(chart.from)
    let place = min(max(Int128(time) - Int128(chart.from), 0), span)
    return Decimal2(Int64(left * 100) + Int64(Int128(plotWidth) * 100 * place / span))
  }

  private func y(_ value: Int64) -> Decimal2 {
    let ceiling = Int128(ceiling)
    let place = min(max(Int128(value), 0), ceiling)
    return Decimal2(floor * 100 - Int64(Int128(plotHeight) * 100 * place / ceiling))
  }

  // MARK: Parts

  private var grid: String {
    var parts: [String] = []
    let ceiling = ceiling
    for part in ceiling >= 2 ? [Int64(0), 1, 2] : [0, 2] {
      let value = ceiling / 2 * part + (part == 2 ? ceiling % 2 : 0)
      let y = y(value)
      parts.append(
        "<line class=\"grid\" x1=\"\(left)\" x2=\"\(size.width - right)\" y1=\"\(y)\" y2=\"\(y)\"/>"
          + "<text class=\"axis\" x=\"\(left - 6)\" y=\"\(y.plus(400))\" text-anchor=\"end\">"
          + "\(Wording.compact(value))</text>")
    }
    return parts.joined()
  }

  private var bars: String {
    if chart.points.count > Self.singleBars { return denseBars }
    var parts: [String] = []
    for point in chart.points {
      let a = x(point.start)
      let width = max(x(point.end).hundredths - a.hundredths, 60)
      let gap = min(width / 6, 200)
      var shapes = ""
      if let previous = point.previous {
        shapes += rectangle("previous", a.hundredths + gap / 2, width - gap, previous)
      }
      let inset = point.previous == nil ? gap : max(gap, width / 4)
      shapes += rectangle("value", a.hundredths + inset / 2, width - inset, point.value)
      // Pointing works over the whole height, even if the bar is low.
      shapes +=
        "<rect class=\"target\" x=\"\(a)\" width=\"\(Decimal2(width))\" y=\"\(top)\""
        + " height=\"\(plotHeight)\"/>"
      let title = HTMLText.escape(
        "\(context.zone.minute(point.start)): \(Wording.number(point.value)) \(chart.unit)"
          + (point.end > context.now ? " so far" : "")
          + (point.previous.map { ", before \(Wording.number($0))" } ?? ""))
      if let href = point.href {
        parts.append(
          "<a href=\"\(HTMLText.escape(href))\" tabindex=\"-1\" aria-label=\"\(title)\">"
            + "<title>\(title)</title>\(shapes)</a>")
      } else {
        parts.append("<g><title>\(title)</title>\(shapes)</g>")
      }
    }
    return parts.joined()
  }

  private func rectangle(_ name: String, _ x: Int64, _ width: Int64, _ value: Int64) -> String {
    guard value > 0 else { return "" }
    // Anything above zero is visible, however small it is.
    let top = min(y(value).hundredths, floor * 100 - 100)
    return "<rect class=\"\(name)\" x=\"\(Decimal2(x))\" y=\"\(Decimal2(top))\""
      + " width=\"\(Decimal2(max(width, 40)))\" height=\"\(Decimal2(floor * 100 - top))\"/>"
  }

  private var denseBars: String {
    var value = ""
    var previous = ""
    for point in chart.points {
      let a = x(point.start)
      let width = Decimal2(max(x(point.end).hundredths - a.hundredths, 40))
      func step(_ quantity: Int64) -> String {
        "M\(a) \(floor)V\(y(quantity))h\(width)V\(floor)z"
      }
      if point.value > 0 { value += step(point.value) }
      if let before = point.previous, before > 0 { previous += step(before) }
    }
    return (previous.isEmpty ? "" : "<path class=\"previous\" d=\"\(previous)\"/>")
      + "<path class=\"value\" d=\"\(value)\"/>"
  }

  private var line: String {
    var sum = Int128(0)
    var path = "M\(x(chart.points.first?.start ?? chart.from)) \(y(0))"
    for point in chart.points {
      sum += Int128(point.value)
      path += "L\(x(point.end)) \(y(Int64(clamping: sum)))"
    }
    guard let last = chart.points.last else { return "" }
    let area = path + "L\(x(last.end)) \(floor)z"
    return "<path class=\"area\" d=\"\(area)\"/><path class=\"line\" d=\"\(path)\"/>"
  }

  /// Draws the line from the last point to the end of the range.
  private var projection: String {
    guard let projection = chart.projection else { return "" }
    let x0 = x(chart.points.last?.end ?? chart.from)
    let y0 = y(chart.total)
    let x1 = x(chart.to)
    return
      "<path class=\"band\" d=\"M\(x0) \(y0)L\(x1) \(y(projection.low))V\(y(projection.high))z\"/>"
      + "<path class=\"estimate\" d=\"M\(x0) \(y0)L\(x1) \(y(projection.quantity))\"/>"
  }

  private var limit: String {
    guard let limit = chart.limit, chart.style == .cumulative, limit <= ceiling else { return "" }
    let y = y(limit)
    return
      "<line class=\"limit\" x1=\"\(left)\" x2=\"\(size.width - right)\" y1=\"\(y)\" y2=\"\(y)\"/>"
      + "<text class=\"limit\" x=\"\(left + 6)\" y=\"\(y.plus(-500))\">"
      + "limit \(Wording.compact(limit))</text>"
  }

  private var marks: String {
    chart.shownMarks.map { mark in
      let x = x(mark.time)
      let text = HTMLText.escape("\(context.zone.minute(mark.time)): \(mark.text)")
      return "<g class=\"mark \(mark.tone.rawValue)\"><title>\(text)</title>"
        + "<line x1=\"\(x)\" x2=\"\(x)\" y1=\"\(top - 4)\" y2=\"\(floor)\"/>"
        + "<path d=\"M\(x.plus(-500)) \(top - 12)h10l-5 8z\"/></g>"
    }.joined()
  }

  /// Labels below the axis, at the times of whole points if there are any.
  private var timeLabels: String {
    let starts = chart.points.isEmpty ? [chart.from] : chart.points.map(\.start)
    let step = max(1, (starts.count + size.labels - 1) / size.labels)
    return stride(from: 0, to: starts.count, by: step).map { index in
      let time = starts[index]
      return "<text class=\"axis\" x=\"\(x(time))\" y=\"\(size.height - 8)\">"
        + "\(HTMLText.escape(timeLabel(time)))</text>"
    }.joined()
  }

  private func timeLabel(_ time: Int64) -> String {
    let span = chart.to - chart.from
    let day: Int64 = 86_400_000
    if span <= 2 * day { return context.zone.clock(time) }
    return span <= 400 * day ? context.zone.shortDay(time) : context.zone.monthAndYear(time)
  }
}

/// A number with two decimals, written as short as possible.
private struct Decimal2: CustomStringConvertible {
  let hundredths: Int64

  init(_ hundredths: Int64) { self.hundredths = hundredths }

  func plus(_ hundredths: Int64) -> Decimal2 { Decimal2(self.hundredths + hundredths) }

  var description: String {
    let (whole, rest) = hundredths.magnitude.quotientAndRemainder(dividingBy: 100)
    let sign = hundredths < 0 ? "-" : ""
    if rest == 0 { return "\(sign)\(whole)" }
    return rest % 10 == 0
      ? "\(sign)\(whole).\(rest / 10)"
      : "\(sign)\(whole).\(rest < 10 ? "0" : "")\(rest)"
  }
}
