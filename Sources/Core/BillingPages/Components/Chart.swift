/// A drawing of usage over time. A table behind it has the numbers.
package struct Chart: Sendable {
  /// The usage of one window. Times are in milliseconds since 1970.
  package struct Point: Sendable {
    package var start: Int64
    package var end: Int64
    package var value: Int64
    /// The usage of the same window one range earlier.
    package var previous: Int64?
    /// A link to a finer view of this window.
    package var href: String?

    package init(
      start: Int64, end: Int64, value: Int64, previous: Int64? = nil, href: String? = nil
    ) {
      self.start = start
      self.end = end
      self.value = value
      self.previous = previous
      self.href = href
    }
  }

  /// Something that happened, such as an alert.
  package struct Mark: Sendable {
    package var time: Int64
    package var text: String
    package var tone: Tone

    package init(time: Int64, text: String, tone: Tone) {
      self.time = time
      self.text = text
      self.tone = tone
    }
  }

  /// An estimate for the end of the range, with its bounds.
  package struct Projection: Sendable {
    package var quantity: Int64
    package var low: Int64
    package var high: Int64

    package init(quantity: Int64, low: Int64, high: Int64) {
      self.quantity = quantity
      self.low = low
      self.high = high
    }
  }

  package enum Style: Sendable {
    /// One bar for each window.
    case bars
    /// A line that adds up the windows. It can be compared with a limit.
    case cumulative
  }

  package var title: String
  package var style: Style
  /// In milliseconds since 1970. The range may end after the last point.
  package var from: Int64
  package var to: Int64
  package var points: [Point]
  package var limit: Int64?
  package var marks: [Mark] = []
  package var projection: Projection?
  /// The singular or plural name of what is counted, such as `calls`.
  package var unit: String

  package init(
    title: String, style: Style, from: Int64, to: Int64, points: [Point], limit: Int64? = nil,
    unit: String = "calls"
  ) {
    self.title = title
    self.style = style
    self.from = from
    self.to = max(to, from + 1)
    self.points = points
    self.limit = limit
    self.unit = unit
  }

  /// The marks within the range.
  var shownMarks: [Mark] { marks.filter { (from..<to).contains($0.time) } }

  /// The sum of all points, cut at the largest number.
  var total: Int64 { Self.sum(points.map(\.value)) }

  static func sum(_ values: [Int64]) -> Int64 {
    Int64(clamping: values.reduce(Int128(0)) { $0 + Int128($1) })
  }

  /// The chart as a component of a page.
  package func figure(in context: PageContext) -> ChartFigure {
    ChartFigure(
      title: title, summary: summary(in: context),
      wide: ChartDrawing(chart: self, size: .wide, context: context).svg,
      narrow: ChartDrawing(chart: self, size: .narrow, context: context).svg,
      legend: legend, table: table(in: context))
  }

  private func summary(in context: PageContext) -> String {
    let range = "\(context.zone.minute(from)) to \(context.zone.minute(to))"
    let sum = "\(Wording.number(total)) \(unit), \(range) (\(context.zone.name))"
    // A window that is not over is compared with nothing.
    let compared = points.filter { $0.previous != nil }
    guard let end = compared.last?.end else { return sum }
    let before = Self.sum(compared.compactMap(\.previous))
    let until = compared.count < points.count ? "until \(context.zone.clock(end)) " : ""
    let change = Wording.change(Self.sum(compared.map(\.value)), before: before)
    return "\(sum); \(until)\(change) before (\(Wording.number(before)))"
  }

  private var legend: [ChartFigure.Entry] {
    var entries = [
      ChartFigure.Entry(kind: "value", text: style == .bars ? "\(unit) a window" : "\(unit) so far")
    ]
    if points.contains(where: { $0.previous != nil }) {
      entries.append(.init(kind: "previous", text: "the time before"))
    }
    if let limit { entries.append(.init(kind: "limit", text: "limit \(Wording.number(limit))")) }
    if let projection {
      entries.append(
        .init(
          kind: "projection",
          text: "estimate \(Wording.number(projection.quantity)), from "
            + "\(Wording.number(projection.low)) to \(Wording.number(projection.high))"))
    }
    if !shownMarks.isEmpty { entries.append(.init(kind: "mark", text: "alerts")) }
    return entries
  }

  private func table(in context: PageContext) -> Table {
    let compares = points.contains { $0.previous != nil }
    var columns = ["From (\(context.zone.name))", "#\(unit.capitalizedFirst)"]
    if compares { columns.append("#Before") }
    if style == .cumulative { columns.append("#So far") }
    var table = Table(
      title, columns: columns, empty: Empty("There is no usage in this range."))
    var sum = Int128(0)
    for point in points {
      sum += Int128(point.value)
      let start = Moment(exact: point.start, in: context)
      var cells: [any Component] = [
        point.href.map { Link(context.zone.minute(point.start), to: $0) } ?? start,
        Quantity(point.value),
      ]
      if compares { cells.append(Quantity(point.previous, orElse: "")) }
      if style == .cumulative { cells.append(Quantity(Int64(clamping: sum))) }
      table.add(cells)
    }
    return table
  }
}

extension String {
  /// The text with its first letter in upper case.
  var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}

/// A chart as a page shows it.
package struct ChartFigure: Component {
  package let template = "figure"
  struct Entry: Sendable {
    let kind: String
    let text: String
  }
  let title: String
  let summary: String
  /// SVG whose texts are escaped. There is one drawing for wide screens and one for narrow ones.
  let wide: String
  let narrow: String
  let legend: [Entry]
  let table: Table
}
