import Foundation
import PostgresStore

/// The expected content of the views. A test counts it itself while it makes its events.
package struct UsageTruth: Sendable {
  package struct Sum: Equatable, Sendable {
    package var quantity: Int64 = 0
    package var events: Int64 = 0
  }

  package struct Row: Hashable, Sendable, CustomStringConvertible {
    package var license: String
    package var meter: String
    /// Seconds since 1970.
    package var start: Int64
    package var end: Int64 = 0
    package var dimension = ""
    package var value = ""

    package var description: String {
      "\(license) \(meter) \(UsageEventText.time(milliseconds: start * 1_000)) \(dimension) \(value)"
    }
  }

  package private(set) var minutes: [Row: Sum] = [:]
  package private(set) var dimensions: [Row: Sum] = [:]
  package private(set) var events: Int64 = 0
  package private(set) var quantity: Int64 = 0

  package init() {}

  package mutating func count(_ event: UsageEventText) {
    events += 1
    quantity += event.quantity
    let seconds = event.milliseconds / 1_000
    func add(_ sums: inout [Row: Sum], _ row: Row) {
      sums[row, default: Sum()].quantity += event.quantity
      sums[row, default: Sum()].events += 1
    }
    let (license, meter) = (event.subject, event.meter)
    add(&minutes, Row(license: license, meter: meter, start: seconds - seconds % 60))
    for (dimension, value) in [("domain", event.domain), ("feature", event.feature)] {
      guard let value else { continue }
      add(
        &dimensions,
        Row(
          license: license, meter: meter, start: seconds - seconds % 86_400,
          dimension: dimension, value: value))
    }
  }

  package func summed(by seconds: Int64) -> [Row: Sum] {
    regrouped { $0.start -= $0.start % seconds }
  }

  /// - Parameter anchors: the billing anchor day of each license; 1 for those that are missing.
  package func periods(anchors: [String: Int]) -> [Row: Sum] {
    regrouped {
      let (start, end) = Self.period(day: $0.start / 86_400, anchor: anchors[$0.license] ?? 1)
      $0.start = start * 86_400
      $0.end = end * 86_400
    }
  }

  /// The first day of the period that contains `day`, and the first day of the next one. It steps
  /// from day to day, so that nobody has to trust arithmetic on months.
  package static func period(day: Int64, anchor: Int) -> (Int64, Int64) {
    func isAnchor(_ day: Int64) -> Bool {
      let (this, next) = (dayOfMonth(day), dayOfMonth(day + 1))
      return this == anchor || (this < anchor && next == 1)
    }
    var first = day
    while !isAnchor(first) { first -= 1 }
    var end = day + 1
    while !isAnchor(end) { end += 1 }
    return (first, end)
  }

  private static func dayOfMonth(_ day: Int64) -> Int {
    var seconds = time_t(day * 86_400)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    return Int(parts.tm_mday)
  }

  private func regrouped(_ change: (inout Row) -> Void) -> [Row: Sum] {
    var sums: [Row: Sum] = [:]
    for (row, sum) in minutes {
      var row = row
      change(&row)
      sums[row, default: Sum()].quantity += sum.quantity
      sums[row, default: Sum()].events += sum.events
    }
    return sums
  }

  /// Every row of every view that differs from the expectation, in one snapshot. At most ten per
  /// view are returned.
  package func differences(_ database: TestDatabase, anchors: [String: Int] = [:]) throws
    -> [String]
  {
    let start = "extract(epoch from bucket_start)::bigint, 0, '', ''"
    let connection = try database.connection()
    return try connection.transaction("begin isolation level repeatable read read only") {
      var found: [String] = []
      func compare(_ view: String, _ columns: String, _ expected: [Row: Sum]) throws {
        let rows = try connection.query(
          "select license_id, meter, \(columns), quantity, event_count from \(view)",
          operation: view)
        var actual: [Row: Sum] = [:]
        for i in rows.rows.indices {
          let row = Row(
            license: rows.text(i, 0)!, meter: rows.text(i, 1)!, start: rows.integer(i, 2)!,
            end: rows.integer(i, 3)!, dimension: rows.text(i, 4)!, value: rows.text(i, 5)!)
          if actual[row] != nil { found.append("\(view): \(row) stands twice") }
          actual[row] = Sum(quantity: rows.integer(i, 6)!, events: rows.integer(i, 7)!)
        }
        let wrong = Set(actual.keys).union(expected.keys).filter { actual[$0] != expected[$0] }
        for row in wrong.sorted(by: { "\($0)" < "\($1)" }).prefix(10) {
          found.append(
            "\(view): \(row): is \(actual[row].map { "\($0)" } ?? "missing"), "
              + "should be \(expected[row].map { "\($0)" } ?? "missing")")
        }
        if wrong.count > 10 { found.append("\(view): and \(wrong.count - 10) more") }
      }
      try compare("usage_by_minute", start, minutes)
      try compare("usage_by_hour", start, summed(by: 3_600))
      try compare("usage_by_day", start, summed(by: 86_400))
      try compare(
        "usage_by_dimension_day", "extract(epoch from bucket_start)::bigint, 0, dimension, value",
        dimensions)
      try compare(
        "usage_by_period",
        "extract(epoch from period_start)::bigint, extract(epoch from period_end)::bigint, '', ''",
        periods(anchors: anchors))
      return found
    }
  }
}
