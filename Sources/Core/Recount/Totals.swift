import Metering

/// The length of a row of usage.
package enum UsageWindow: String, CaseIterable, Sendable {
  case minute, hour, day

  package var minutes: Int64 {
    switch self {
    case .minute: 1
    case .hour: 60
    case .day: 1440
    }
  }

  /// The epoch minute at which the window that contains `minute` begins.
  package func start(ofMinute minute: Int64) -> Int64 {
    floorDivide(minute, by: minutes) * minutes
  }
}

/// The key of a row of usage.
package struct UsageKey: Hashable, Comparable, Sendable {
  package var license: ExactText
  package var meter: ExactText
  /// The beginning of the row's window in minutes since 1970 UTC, also for hours and days. It is
  /// negative before 1970.
  package var minuteStart: Int64

  package init(license: ExactText, meter: ExactText, minuteStart: Int64) {
    self.license = license
    self.meter = meter
    self.minuteStart = minuteStart
  }

  package static func < (left: UsageKey, right: UsageKey) -> Bool {
    (left.license, left.meter, left.minuteStart) < (right.license, right.meter, right.minuteStart)
  }
}

/// The counts of a row.
package struct Tally: Equatable, Sendable {
  /// The quantity has 128 bits, so that no sum overflows. If the aggregator quarantines a license
  /// because its number no longer fits into 64 bits, the recount still knows the number.
  package var quantity: Int128
  package var eventCount: Int64

  package init(quantity: some BinaryInteger = Int128.zero, eventCount: Int64 = 0) {
    self.quantity = Int128(quantity)
    self.eventCount = eventCount
  }

  package mutating func add(_ other: Tally) {
    quantity += other.quantity
    eventCount += other.eventCount
  }

  package var isNothing: Bool { quantity == 0 && eventCount == 0 }
}

/// Rows of usage, all of one window.
package struct Totals: Equatable, Sendable {
  package let window: UsageWindow
  package var rows: [UsageKey: Tally]

  package init(window: UsageWindow, rows: [UsageKey: Tally] = [:]) {
    self.window = window
    self.rows = rows
  }

  /// Adds the rows of another partition with the same window.
  package mutating func merge(_ other: Totals) {
    precondition(window == other.window, "rows of different windows do not add up")
    for (key, tally) in other.rows {
      rows[key, default: Tally()].add(tally)
    }
  }

  /// The rows of a longer window (or the same), summed.
  package func rolledUp(to longer: UsageWindow) -> Totals {
    precondition(longer.minutes >= window.minutes, "a row cannot be divided into shorter ones")
    var result = Totals(window: longer)
    for (key, tally) in rows {
      var longerKey = key
      longerKey.minuteStart = longer.start(ofMinute: key.minuteStart)
      result.rows[longerKey, default: Tally()].add(tally)
    }
    return result
  }

  /// The rows whose window begins in a range of epoch minutes.
  package func beginning(in minutes: Range<Int64>) -> Totals {
    Totals(window: window, rows: rows.filter { minutes.contains($0.key.minuteStart) })
  }
}

/// The key of a row of usage by dimension, which is a day's usage with one value of domain or
/// feature.
package struct DimensionKey: Hashable, Sendable {
  package enum Dimension: String, CaseIterable, Sendable {
    case domain, feature
  }

  package var license: ExactText
  package var meter: ExactText
  /// The epoch minute at which the day begins.
  package var dayStart: Int64
  package var dimension: Dimension
  package var value: ExactText

  package init(
    license: ExactText, meter: ExactText, dayStart: Int64, dimension: Dimension, value: ExactText
  ) {
    self.license = license
    self.meter = meter
    self.dayStart = dayStart
    self.dimension = dimension
    self.value = value
  }
}

/// The offsets in one partition between which the counted events of an hour's row lie.
package struct OffsetRange: Equatable, Sendable {
  package var firstOffset: Int64
  package var lastOffset: Int64

  package init(firstOffset: Int64, lastOffset: Int64) {
    self.firstOffset = firstOffset
    self.lastOffset = lastOffset
  }

  mutating func include(_ other: OffsetRange) {
    firstOffset = min(firstOffset, other.firstOffset)
    lastOffset = max(lastOffset, other.lastOffset)
  }
}

/// The outcomes of the numbered events of one producer.
///
/// Requeued records count only in `requeued`. They are not deliveries of their producer, which
/// accepted the event once and has it under `deadLettered`.
package struct LedgerEntry: Equatable, Sendable {
  package var counted: Int64
  /// All duplicates, including repeated ones.
  package var duplicates: Int64
  /// Duplicates with a sequence above the highest, which were accepted as separate events.
  package var repeated: Int64
  /// Dead letters. Each sequence above the highest counts once.
  package var deadLettered: Int64
  /// Dead letters that were counted later.
  package var requeued: Int64

  package init(
    counted: Int64 = 0, duplicates: Int64 = 0, repeated: Int64 = 0, deadLettered: Int64 = 0,
    requeued: Int64 = 0
  ) {
    self.counted = counted
    self.duplicates = duplicates
    self.repeated = repeated
    self.deadLettered = deadLettered
    self.requeued = requeued
  }

  package mutating func add(_ other: LedgerEntry) {
    counted += other.counted
    duplicates += other.duplicates
    repeated += other.repeated
    deadLettered += other.deadLettered
    requeued += other.requeued
  }
}
