import MeteringTestKit

/// What closes and adjustments must make of usage, as simply as possible. Late usage is what the
/// days add up to beyond what was frozen. Days are counted since 1970.
struct ClosingModel {
  struct Sum: Equatable {
    var quantity: Int64 = 0
    var events: Int64 = 0

    static func + (a: Sum, b: Sum) -> Sum {
      Sum(quantity: a.quantity + b.quantity, events: a.events + b.events)
    }
    static func - (a: Sum, b: Sum) -> Sum {
      Sum(quantity: a.quantity - b.quantity, events: a.events - b.events)
    }
  }

  /// A license and meter with a day, or with the first day of a period.
  struct Key: Hashable {
    var license: String
    var meter: String
    var day: Int64
  }

  struct Closed {
    var end: Int64
    var sum: Sum
    var included: Int64?
    var overage: Int64
  }

  struct Entry {
    var appliesTo: Key
    var invoiced: Int64
    var isLate: Bool
    var sum: Sum
  }

  static let forever = Int64.min / 2
  var customers: [String: String] = [:]
  var anchors: [String: [Int64: Int]] = [:]
  /// The limits by license and meter.
  var limits: [String: Int64] = [:]
  var days: [Key: Sum] = [:]
  var closedThrough: [String: Int64] = [:]
  var closed: [Key: Closed] = [:]
  var entries: [Entry] = []

  func period(_ license: String, _ day: Int64) -> (start: Int64, end: Int64) {
    let changes = anchors[license] ?? [:]
    let from = changes.keys.filter { $0 <= day }.max() ?? Self.forever
    let (start, end) = UsageTruth.period(day: day, anchor: changes[from] ?? 1)
    return (max(start, from), min(end, changes.keys.filter { $0 > day }.min() ?? end))
  }

  /// The first period of an unregistered license, if the period of `key` is before it and nothing of
  /// the license is closed there. Registered licenses are older than all usage.
  func beginsBeforeUse(_ key: Key) -> Int64? {
    guard customers[key.license] == nil,
      let day = days.keys.filter({ $0.license == key.license }).map(\.day).min()
    else { return nil }
    let first = period(key.license, day).start
    let isClosed = closed.contains { closedKey, value in
      closedKey.license == key.license && closedKey.day <= key.day && key.day < value.end
    }
    return key.day < first && !isClosed ? first : nil
  }

  func frozen(_ license: String) -> Int64? {
    let ends = closed.filter { $0.key.license == license }.map(\.value.end)
    return (ends + [closedThrough[license]].compactMap { $0 }).max()
  }

  func isClosed(_ key: Key) -> Bool {
    key.day < closedThrough[key.license] ?? Self.forever
      || closed.contains {
        $0.key.license == key.license && $0.key.meter == key.meter && $0.key.day <= key.day
          && key.day < $0.value.end
      }
  }

  func nextOpen(_ key: Key) -> Int64 {
    var start = max(
      period(key.license, key.day).end, closedThrough[key.license] ?? Self.forever)
    while let end = closed[Key(license: key.license, meter: key.meter, day: start)]?.end {
      start = end
    }
    return start
  }

  /// The sums of days by period.
  var periods: [Key: Sum] {
    var sums: [Key: Sum] = [:]
    for (key, sum) in days {
      var key = key
      key.day = period(key.license, key.day).start
      sums[key] = (sums[key] ?? Sum()) + sum
    }
    return sums
  }

  /// Late usage that is on no closed invoice, with the period that will take it.
  var openLate: [(key: Key, invoiced: Int64, sum: Sum)] {
    periods.filter { isClosed($0.key) }.compactMap { key, sum in
      var late = sum - (closed[key]?.sum ?? Sum())
      for entry in entries where entry.isLate && entry.appliesTo == key { late = late - entry.sum }
      return late == Sum() ? nil : (key, nextOpen(key), late)
    }
  }

  // MARK: What happens

  mutating func close(through day: Int64, customer: String?) {
    let used = customer == nil ? days.keys.map(\.license) : []
    let licenses = customers.filter { customer == nil || $0.value == customer }.keys
    for license in Set(licenses).union(used) {
      let from = closedThrough[license] ?? Self.forever
      let boundary = period(license, day).start
      guard boundary > from else { continue }
      freeze(license, from..<boundary)
      closedThrough[license] = boundary
    }
  }

  mutating func closeOne(_ key: Key) {
    freeze(key.license, key.day..<period(key.license, key.day).end, meter: key.meter)
  }

  /// - Returns: nil if there is nothing to close.
  func canCloseOne(_ key: Key) -> Bool {
    periods[key] != nil
      || entries.contains {
        $0.appliesTo.license == key.license
          && $0.appliesTo.meter == key.meter && $0.invoiced == key.day
      }
      || openLate.contains {
        $0.key.license == key.license && $0.key.meter == key.meter && $0.invoiced == key.day
      }
  }

  private mutating func freeze(_ license: String, _ range: Range<Int64>, meter: String? = nil) {
    func isMeant(_ key: Key) -> Bool {
      key.license == license && meter ?? key.meter == key.meter
    }
    let late = openLate.filter { isMeant($0.key) && range.contains($0.invoiced) }
    for l in late {
      entries.append(Entry(appliesTo: l.key, invoiced: l.invoiced, isLate: true, sum: l.sum))
    }
    var frozen = periods.filter { isMeant($0.key) && range.contains($0.key.day) }
    for entry in entries where isMeant(entry.appliesTo) && range.contains(entry.invoiced) {
      var key = entry.appliesTo
      key.day = period(license, entry.invoiced).start
      frozen[key] = frozen[key] ?? Sum()
    }
    for (key, sum) in frozen where closed[key] == nil {
      let end = period(license, key.day).end
      let included = limits[license + " " + key.meter]
      let byHand = entries.filter {
        !$0.isLate && isMeant($0.appliesTo) && $0.appliesTo.meter == key.meter
          && (key.day..<end).contains($0.appliesTo.day)
      }.reduce(0) { $0 + $1.sum.quantity }
      closed[key] = Closed(
        end: end, sum: sum, included: included,
        overage: included.map { max(0, sum.quantity + byHand - $0) } ?? 0)
    }
  }

  mutating func adjust(_ key: Key, _ sum: Sum) {
    entries.append(
      Entry(
        appliesTo: key, invoiced: isClosed(key) ? nextOpen(key) : key.day, isLate: false, sum: sum))
  }

  // MARK: What readers must see

  /// Rows of `usage_by_period`, as `license meter start end quantity events closed? included
  /// overage`.
  var periodRows: [String] {
    var rows: [String] = []
    for (key, sum) in periods where closed[key] == nil {
      let late = isClosed(key)
      let (start, end) = period(key.license, key.day)
      let shown = late ? Sum() : sum
      rows.append(
        "\(key.license) \(key.meter) \(start) \(end) \(shown.quantity) \(shown.events) \(late)")
    }
    for (key, c) in closed {
      let frozen = c.sum.events > 0 ? " \(c.included.map { "\($0)" } ?? "-") \(c.overage)" : ""
      rows.append(
        "\(key.license) \(key.meter) \(key.day) \(c.end) \(c.sum.quantity) \(c.sum.events) true"
          + frozen)
    }
    return rows.sorted()
  }

  /// Rows of `usage_adjustment`.
  var adjustmentRows: [String] {
    let recorded = entries.map { ($0.appliesTo, $0.invoiced, $0.isLate, $0.sum) }
    let growing = openLate.map { ($0.key, $0.invoiced, true, $0.sum) }
    return (recorded + growing).map { key, invoiced, isLate, sum in
      "\(key.license) \(key.meter) \(key.day) \(invoiced) \(isLate ? "late" : "manual") "
        + "\(sum.quantity) \(sum.events)"
    }.sorted()
  }
}
