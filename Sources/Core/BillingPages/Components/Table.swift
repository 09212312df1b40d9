/// A table, or what to say where it would be empty.
package struct Table: Component {
  package let template = "table"

  struct Column: Sendable {
    let title: String
    let isNumber: Bool
  }
  struct Line: Sendable {
    let cells: [Cell]
  }
  struct Cell: Sendable {
    let parts: [any Component]
    let isNumber: Bool
    /// The column's title, which narrow screens show beside the value.
    let title: String
    let isHead: Bool
  }

  let caption: String
  /// Whether the caption is for screen readers only, because a heading says the same.
  let hidesCaption: Bool
  let columns: [Column]
  private(set) var lines: [Line] = []
  private(set) var total: Line?
  let empty: Empty
  /// The address of the next page of the list.
  private(set) var next: String?
  private(set) var isEmpty = true

  /// - Parameter columns: their titles; those that begin with `#` hold numbers.
  package init(
    _ caption: String, columns: [String], empty: Empty, showsCaption: Bool = false
  ) {
    self.caption = caption
    hidesCaption = !showsCaption
    self.columns = columns.map {
      $0.hasPrefix("#")
        ? Column(title: String($0.dropFirst()), isNumber: true)
        : Column(title: $0, isNumber: false)
    }
    self.empty = empty
  }

  /// Adds a line; its first cell is the line's head.
  package mutating func add(_ cells: [any Component]) {
    lines.append(line(cells))
    isEmpty = false
  }

  /// The line of sums below.
  package mutating func addTotal(_ cells: [any Component]) { total = line(cells) }

  /// A list of which there is more.
  package mutating func continues(at cursor: String?, in context: PageContext) {
    next = cursor.map { context.here([("cursor", $0)]) }
  }

  private func line(_ cells: [any Component]) -> Line {
    Line(
      cells: zip(columns, cells).enumerated().map { index, pair in
        Cell(
          parts: [pair.1], isNumber: pair.0.isNumber, title: pair.0.title, isHead: index == 0)
      })
  }
}
