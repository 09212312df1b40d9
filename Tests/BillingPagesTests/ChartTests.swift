import Testing

@testable import BillingPages

@Suite struct ChartTests {
  private let context = PageFixtures.context()

  private func chart(_ values: [Int64], style: Chart.Style = .bars) -> Chart {
    Chart(
      title: "Calls", style: style, from: 0, to: Int64(values.count) * 1000,
      points: values.enumerated().map {
        .init(start: Int64($0.offset) * 1000, end: Int64($0.offset + 1) * 1000, value: $0.element)
      })
  }

  @Test(
    arguments: [
      (1, 1), (2, 2), (3, 3), (7, 8), (11, 12), (61, 80), (1_048_233, 1_200_000),
      (Int64.max, Int64.max),
    ] as [(Int64, Int64)])
  func `the scale ends at a round number`(_ value: Int64, _ end: Int64) {
    #expect(ChartDrawing.round(value) == end)
  }

  @Test func `the largest numbers are drawn without overflow`() {
    var chart = chart([.max, .max, .max], style: .cumulative)
    chart.limit = .max
    chart.projection = .init(quantity: .max, low: .max, high: .max)
    let figure = chart.figure(in: context)
    #expect(figure.wide.contains("class=\"line\""))
    #expect(chart.total == .max)
  }

  @Test func `a window without usage has no bar and a small one is still seen`() {
    let svg = chart([0, 1, 1_000_000]).figure(in: context).wide
    #expect(svg.ranges(of: "class=\"value\"").count == 2)
    #expect(svg.contains("height=\"1\""))
  }

  @Test func `a month of hours is one path instead of 744 shapes`() {
    let svg = chart(Array(repeating: 5, count: 744)).figure(in: context).wide
    #expect(svg.ranges(of: "<rect").count == 0)
    #expect(svg.ranges(of: "<path class=\"value\"").count == 1)
  }

  @Test func `the limit, the alerts and the estimate are drawn and named in the legend`() {
    var chart = chart([10, 20, 30], style: .cumulative)
    chart.to = 5000
    chart.limit = 80
    chart.projection = .init(quantity: 100, low: 90, high: 120)
    chart.marks = [.init(time: 2500, text: "80 % reached", tone: .warning)]
    let figure = chart.figure(in: context)
    for part in ["class=\"limit\"", "class=\"band\"", "class=\"estimate\"", "80 % reached"] {
      #expect(figure.wide.contains(part), "\(part)")
      #expect(figure.narrow.contains(part), "\(part)")
    }
    #expect(
      figure.legend.map(\.text) == [
        "calls so far", "limit 80", "estimate 100, from 90 to 120", "alerts",
      ])
  }

  @Test func `a limit that is far away does not press the line to the floor`() {
    var chart = chart([10], style: .cumulative)
    chart.limit = 1_000_000
    #expect(!chart.figure(in: context).wide.contains("<line class=\"limit\""))
  }

  @Test func `no points at all are an empty frame`() {
    let figure = chart([]).figure(in: context)
    #expect(figure.wide.hasPrefix("<svg"))
    #expect(figure.wide.hasSuffix("</svg>"))
  }
}
