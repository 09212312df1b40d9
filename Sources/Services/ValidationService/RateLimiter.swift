import Synchronization

/// Delays callers that ask too often, with a fixed amount of memory.
///
/// It uses GCRA (ITU-T I.371). The requests of a key are due at a fixed interval, and may come
/// early by a burst. A request that comes even earlier waits for the difference. The due times are
/// kept in a count-min sketch: a table of four rows, into which each key is hashed by four
/// functions. The smallest of a key's four cells is its time. A key is therefore never delayed too
/// little, and delayed too much only if it shares all four cells.
final class RateLimiter: Sendable {
  struct Rate: Sendable {
    /// Requests per second.
    var perSecond: Int
    var burst: Int
  }

  /// In microseconds.
  static let maximumDelay: Int64 = 5_000_000

  private static let rows = 4
  private static let columns = 1 << 15
  /// Due times, in microseconds of the caller's clock. `Hasher` has a different key in each
  /// process, so nobody can aim at a cell.
  private let cells = Mutex([Int64](repeating: 0, count: rows * columns))

  /// Counts a request.
  ///
  /// - Parameters:
  ///   - cost: how many requests it counts as. 0 only asks.
  ///   - now: microseconds, from a clock that never goes back.
  /// - Returns: how long the answer should wait, in microseconds, from 0 to `maximumDelay`.
  func delay(_ key: some Hashable, _ rate: Rate, cost: Int = 1, now: Int64) -> Int64 {
    var hasher = Hasher()
    hasher.combine(key)
    let hash = UInt64(bitPattern: Int64(hasher.finalize()))
    let interval = 1_000_000 / Int64(max(rate.perSecond, 1))
    let tolerance = interval * Int64(rate.burst)
    return cells.withLock { cells in
      var least = Int64.max
      for row in 0..<Self.rows { least = min(least, cells[Self.cell(row, hash)]) }
      // Bounded, so that a key never waits longer than its delay says.
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
