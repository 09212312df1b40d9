import Synchronization

/// Slows down who asks too often, in memory that does not grow with the number of those who ask.
///
/// GCRA (ITU-T I.371): a key's requests are due one interval behind the other, and may come earlier
/// by a burst; who comes still earlier waits for the difference. The times lie in a table of four
/// rows that keys are hashed into, each by its own function, and the least of a key's four is its
/// time (a count-min sketch): a key is never taken for slower than it is, and for faster only where
/// all four cells are shared.
final class RateLimiter: Sendable {
  struct Rate: Sendable {
    /// Requests a second.
    var perSecond: Int
    var burst: Int
  }

  /// Microseconds.
  static let maximumDelay: Int64 = 5_000_000

  private static let rows = 4
  private static let columns = 1 << 15
  /// Due times, in microseconds of the caller's clock. `Hasher` has another key in each process, so
  /// nobody can aim at a cell.
  private let cells = Mutex([Int64](repeating: 0, count: rows * columns))

  /// Counts a request.
  ///
  /// - Parameters:
  ///   - cost: as how many requests it counts; 0 only asks.
  ///   - now: microseconds, of a clock that never goes back.
  /// - Returns: how long the answer is to wait, in microseconds: 0 to `maximumDelay`.
  func delay(_ key: some Hashable, _ rate: Rate, cost: Int = 1, now: Int64) -> Int64 {
    var hasher = Hasher()
    hasher.combine(key)
    let hash = UInt64(bitPattern: Int64(hasher.finalize()))
    let interval = 1_000_000 / Int64(max(rate.perSecond, 1))
    let tolerance = interval * Int64(rate.burst)
    return cells.withLock { cells in
      var least = Int64.max
      for row in 0..<Self.rows { least = min(least, cells[Self.cell(row, hash)]) }
      // Never so far ahead that a key would wait longer than its delay says.
      let due = min(
        max(least, now) + interval * Int64(cost), now + tolerance + Self.maximumDelay)
      for row in 0..<Self.rows {
        let cell = Self.cell(row, hash)
        cells[cell] = max(cells[cell], due)
      }
      return min(max(due - now - tolerance, 0), Self.maximumDelay)
    }
  }

  private static func cell(_ row: Int, _ hash: UInt64) -> Int {
    row * columns + Int(hash >> UInt64(row * 15) & UInt64(columns - 1))
  }
}
