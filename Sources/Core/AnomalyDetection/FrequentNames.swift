/// The most frequent names of a stream in constant memory, by the space-saving sketch (Metwally,
/// Agrawal and El Abbadi 2005).
///
/// A name that makes up more than 1/`capacity` of the stream always has a counter. When all
/// counters are taken, a new name takes the place of the one with the lowest count and inherits
/// that count as its error, so a name was seen at least `count − error` times. The state depends on
/// the stream alone: everybody who reads the same names has the same counters.
struct FrequentNames: Sendable, Equatable {
  struct Counter: Sendable, Equatable {
    var name: String
    var count: Int64
    /// The amount by which `count` may be too high.
    var error: Int64

    var atLeast: Int64 { count - error }
  }

  static let capacity = 32

  private(set) var counters: [Counter] = []

  init() {}

  /// Nil if these cannot be the counters of a sketch.
  init?(counters: [Counter]) {
    guard counters.count <= Self.capacity,
      counters.allSatisfy({ $0.error >= 0 && $0.error < $0.count })
    else { return nil }
    self.counters = counters
  }

  /// - Complexity: O(capacity).
  mutating func insert(_ name: String) {
    if let known = counters.firstIndex(where: { $0.name == name }) {
      counters[known].count += 1
    } else if counters.count < Self.capacity {
      counters.append(Counter(name: name, count: 1, error: 0))
    } else if let lowest = counters.indices.min(by: { counters[$0].count < counters[$1].count }) {
      let error = counters[lowest].count
      counters[lowest] = Counter(name: name, count: error + 1, error: error)
    }
  }

  /// The names that were certainly seen most often come first. If two are equal, the older counter
  /// comes first.
  func top(_ most: Int) -> [Counter] {
    counters.enumerated().sorted {
      ($1.element.atLeast, $0.offset) < ($0.element.atLeast, $1.offset)
    }.prefix(most).map(\.element)
  }
}
