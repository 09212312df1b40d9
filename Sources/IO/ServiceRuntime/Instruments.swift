import Synchronization

/// A count that only grows. It is lock-free and safe on any thread, including in a C callback.
package final class Counter: Sendable {
  private let value = Atomic<Int>(0)

  init() {}

  /// - Precondition: `amount` is not negative.
  package func increment(by amount: Int = 1) {
    precondition(amount >= 0, "a counter never goes down")
    value.wrappingAdd(amount, ordering: .relaxed)
  }

  /// The count so far.
  package var current: Int { value.load(ordering: .relaxed) }
}

/// A value that goes up and down. It is lock-free, and the last write wins.
package final class Gauge: Sendable {
  private let bits = Atomic<UInt64>(0)

  init() {}

  package func set(_ value: Double) {
    bits.store(value.bitPattern, ordering: .relaxed)
  }

  /// Exact up to 2^53, because Prometheus keeps every sample as a `Double`.
  package func set(_ value: Int) {
    set(Double(value))
  }

  /// The last value set; 0 at first.
  package var current: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }
}

/// Counts observations by size. It is lock-free.
package final class Histogram: Sendable {
  /// Upper bounds, inclusive and ascending, without the implied `+Inf`.
  let bounds: [Double]
  /// One cell for each bound and one for `+Inf`. Each holds only its own observations, so that an
  /// observation is one addition. The running totals are computed at the scrape.
  private let cells: [Counter]
  private let sumBits = Atomic<UInt64>(0)

  init(bounds: [Double]) {
    self.bounds = bounds
    self.cells = (0...bounds.count).map { _ in Counter() }
  }

  /// Counts one observation, in the base unit of the histogram's name (seconds, bytes). NaN is
  /// ignored, because the sum would stay NaN for the life of the process.
  ///
  /// - Complexity: O(number of buckets).
  package func observe(_ value: Double) {
    guard !value.isNaN else { return }
    cells[bounds.firstIndex { value <= $0 } ?? bounds.count].increment()
    // This loop ends, because a failed exchange means that another thread's observation got
    // through.
    var seen = sumBits.load(ordering: .relaxed)
    while true {
      let sum = Double(bitPattern: seen) + value
      let result = sumBits.compareExchange(
        expected: seen, desired: sum.bitPattern, ordering: .relaxed)
      if result.exchanged { return }
      seen = result.original
    }
  }

  /// The running total for each bound, with the count of all last, and the sum. An observation in
  /// progress may be in one and not yet in the other.
  func snapshot() -> (cumulative: [Int], sum: Double) {
    var total = 0
    let cumulative = cells.map { cell in
      total += cell.current
      return total
    }
    return (cumulative, Double(bitPattern: sumBits.load(ordering: .relaxed)))
  }
}
