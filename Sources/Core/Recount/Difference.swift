/// A row that differs from the log.
package struct Difference: Equatable, Sendable {
  package var window: UsageWindow
  package var key: UsageKey
  /// The numbers from the log. They are zero if the log has no such row.
  package var expected: Tally
  /// The numbers that were found. They are zero if there is no such row.
  package var actual: Tally

  package init(window: UsageWindow, key: UsageKey, expected: Tally, actual: Tally) {
    self.window = window
    self.key = key
    self.expected = expected
    self.actual = actual
  }
}

/// Compares rows of the same window one by one. The result is empty if all agree.
///
/// A row without quantity and without events equals a missing one, because neither bills anything.
/// A row with events and without quantity does not. The result is sorted by license, meter and
/// start.
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
