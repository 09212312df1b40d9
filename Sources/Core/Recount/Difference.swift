/// A row that is not what the log says.
package struct Difference: Equatable, Sendable {
  package var window: UsageWindow
  package var key: UsageKey
  /// What the log says; nothing where it knows no such row.
  package var expected: Tally
  /// What was found; nothing where there is no such row.
  package var actual: Tally

  package init(window: UsageWindow, key: UsageKey, expected: Tally, actual: Tally) {
    self.window = window
    self.key = key
    self.expected = expected
    self.actual = actual
  }
}

/// Compares rows of the same window one by one; empty if all agree.
///
/// A row of no quantity and no events equals a missing one: neither bills anything. A row of no
/// quantity with events does not. Sorted by license, meter and start.
package func compare(expected: Totals, actual: Totals) -> [Difference] {
  precondition(expected.window == actual.window, "rows of different windows cannot be compared")
  let keys = Set(expected.rows.keys).union(actual.rows.keys)
  return keys.sorted().compactMap { key in
    let difference = Difference(
      window: expected.window, key: key,
      expected: expected.rows[key] ?? Tally(), actual: actual.rows[key] ?? Tally())
    return difference.expected == difference.actual ? nil : difference
  }
}
