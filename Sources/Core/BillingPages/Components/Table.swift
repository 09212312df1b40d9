/// A table, or a text if it would be empty.
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
    /// The column's title. Narrow screens show it beside the value.
    let title: String
    let isHead: Bool
  }

  let caption: String
  /// Whether the caption is only for screen readers, because a heading says the same.
  let hidesCaption: Bool
  let columns: [Column]
  private(set) var lines: [Line] = []
  private(set) var total: Line?
  let empty: Empty
  /// The address of the next page of the list.
  private(set) var next: String?
  private(set) var isEmpty = true

  /// - Parameter columns: the titles. Columns whose title begins with `#` contain numbers.
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

  /// Adds a row. Its first cell is the head of the row.
  package mutating func add(_ cells: [any Component]) {
    lines.append(line(cells))
    isEmpty = false
  }

  /// Adds the row of sums at the bottom.
  package mutating func addTotal(_ cells: [any Component]) { total = line(cells) }

  /// Marks the list as continued on another page.
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
