import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore

/// Which part of a list a request asks for, and in which format.
struct ListWindow: Sendable {
  enum Format: String, Sendable, CaseIterable {
    case json
    case csv
  }

  /// Nil for the default. In CSV the default is everything.
  var limit: Int?
  var cursor: String?
  var format: Format?
  var quotesQuantities: Bool
  let defaultLimit: Int
}

extension Fields {
  /// Takes `limit`, `cursor`, `format` and `numbers`.
  mutating func listWindow(default: Int = 100, most: Int = 1_000) -> ListWindow {
    ListWindow(
      limit: integer("limit", in: 1...Int64(most)).map { Int($0) },
      cursor: text("cursor", atMost: 8_192), format: choice("format"),
      quotesQuantities: choice("numbers", of: ["string", "number"]) == "string",
      defaultLimit: `default`)
  }
}

/// The beginning of a page.
struct ListStart: Sendable {
  /// The number of rows of the page. Handlers read one row more to know whether there is a next
  /// page (see `ListPage.init`).
  let limit: Int
  /// The key of the row before the page, from `ListPage.next`. Nil at the beginning of the list.
  let after: [String]?
}

struct ListPage: Sendable {
  var rows: [[Cell]]
  /// The key of the last row, if more rows follow.
  var next: [String]?
  /// Members of the answer other than `data` and `next`.
  var members: [(name: String, cell: Cell)] = []
  /// Members that change even if nothing else has changed, such as `as_of`. They are not part of
  /// the `ETag`.
  var volatile: [(name: String, cell: Cell)] = []
  /// The part of `volatile` that belongs to the `ETag` nevertheless.
  var validator = ""

  init(
    rows: [[Cell]], next: [String]?, members: [(name: String, cell: Cell)] = [],
    volatile: [(name: String, cell: Cell)] = [], validator: String = ""
  ) {
    self.rows = rows
    self.next = next
    self.members = members
    self.volatile = volatile
    self.validator = validator
  }

  /// Makes a page from up to `limit + 1` rows that were read.
  init(
    _ rows: [[Cell]], _ start: ListStart, members: [(name: String, cell: Cell)] = [],
    key: ([Cell]) -> [String]
  ) {
    let shown = Array(rows.prefix(start.limit))
    self.init(
      rows: shown, next: rows.count > start.limit ? shown.last.map(key) : nil, members: members)
  }
}

extension APIRequest {
  typealias PageReader = @Sendable (PostgresConnection, ListStart) throws -> ListPage

  /// Answers a list as JSON, or as CSV if the client asks for it.
  ///
  /// - Parameters:
  ///   - name: the name of the file, without `.csv`.
  ///   - columns: the names of the cells of each row, in JSON and in CSV.
  ///   - atOnce: whether one message reads a page, so that it needs no transaction around it.
  ///   - page: reads one page. CSV reads all pages at one snapshot, one at a time.
  func list(
    _ window: ListWindow, _ name: String, columns: [String], atOnce: Bool = false,
    page: @escaping PageReader
  ) async throws -> APIAnswer {
    let signer = try await context.cursorSigner()
    let scope = cursorScope
    var after: [String]?
    if let cursor = window.cursor {
      guard let values = signer.read(cursor, scope: scope) else { throw Problem.badCursor }
      after = values
    }
    if wantsCSV(window.format) {
      return try csv(window, name, columns: columns, after: after, page: page)
    }
    let start = ListStart(limit: window.limit ?? window.defaultLimit, after: after)
    let found =
      atOnce
      ? try await context.database.readOnce(for: caller.customerID) { try page($0, start) }
      : try await read { try page($0, start) }
    return Self.json(
      found, columns: columns, next: found.next.map { signer.write($0, scope: scope) },
      quotesQuantities: window.quotesQuantities)
  }

  static func json(
    _ page: ListPage, columns: [String], next: String?, quotesQuantities: Bool
  ) -> APIAnswer {
    var json = JSONWriter(reserving: 256 + page.rows.count * (48 + 32 * columns.count))
    let names = columns.map(JSONWriter.encoded(name:))
    json.beginObject()
    json.name("data")
    json.beginArray()
    for row in page.rows {
      json.beginObject()
      for (name, cell) in zip(names, row) {
        json.name(encoded: name)
        json.cell(cell, quotesQuantities: quotesQuantities)
      }
      json.endObject()
    }
    json.endArray()
    for (name, cell) in page.members {
      json.member(name, cell: cell, quotesQuantities: quotesQuantities)
    }
    let fixed = json.bytes.count
    for (name, cell) in page.volatile {
      json.member(name, cell: cell, quotesQuantities: quotesQuantities)
    }
    let rest = json.bytes.count
    json.name("next")
    if let next { json.text(next) } else { json.null() }
    json.endObject()
    var answer = APIAnswer.json(json.bytes)
    if !page.volatile.isEmpty {
      answer.headers[.eTag] = ETag.of(
        json.bytes[..<fixed], json.bytes[rest...], Array(page.validator.utf8)[...])
    }
    return answer
  }

  private func csv(
    _ window: ListWindow, _ name: String, columns: [String], after: [String]?,
    page: @escaping PageReader
  ) throws -> APIAnswer {
    let database = context.database
    let place = try database.snapshotPlace(for: caller.customerID)
    return APIAnswer(
      type: "text/csv; charset=utf-8; header=present",
      headers: [.contentDisposition: "attachment; filename=\"\(name).csv\""]
    ) { writer in
      try await database.snapshot(place) { snapshot in
        var after = after
        var left = window.limit ?? .max
        var isFirst = true
        while left > 0, isFirst || after != nil {
          let start = ListStart(limit: min(left, Self.csvPageRows), after: after)
          let isHeaded = isFirst
          let (bytes, count, next) = try await snapshot.read { connection in
            let found = try page(connection, start)
            var bytes = isHeaded ? CSVText.header(columns) : []
            for row in found.rows { CSVText.append(row, to: &bytes) }
            return (bytes, found.rows.count, found.next)
          }
          try await writer.write(bytes)
          isFirst = false
          left -= count
          after = next
        }
      }
    }
  }

  private static let csvPageRows = 5_000

  /// The list and its filters, which a cursor belongs to.
  var cursorScope: String {
    let place = parameters.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    let ignored = ["limit", "cursor", "format", "numbers"]
    let filters = queryText.split(separator: "&").filter { part in
      !ignored.contains { part.utf8.starts(with: ($0 + "=").utf8) }
    }
    return ([route.path, caller.customerID?.string ?? ""] + place + filters.map(String.init))
      .joined(separator: "\n")
  }

  /// Whether the client asks for CSV by `format`, or by `Accept` if there is no `format`.
  func wantsCSV(_ format: ListWindow.Format?) -> Bool {
    if let format { return format == .csv }
    var best: (isCSV: Bool, quality: Double) = (false, 0)
    for part in (headers[.accept] ?? "").split(separator: ",") {
      let pieces = part.split(separator: ";").map { $0.lowercased().filter { $0 != " " } }
      guard let type = pieces.first else { continue }
      let given = pieces.first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) }
      let quality = given ?? 1
      switch type {
      case "text/csv": if quality > best.quality { best = (true, quality) }
      case "application/json", "*/*", "application/*":
        if quality >= best.quality { best = (false, quality) }
      default: break
      }
    }
    return best.isCSV
  }
}
