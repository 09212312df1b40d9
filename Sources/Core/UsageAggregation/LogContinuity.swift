/// Whether a partition's log is the one that was counted, and which command ends a halt.
///
/// The stored position, the last record that was counted, and what the log holds now decide it. The engine, `meterctl
/// topics new-epoch` and `meterctl status` ask the same function, so that they never advise different things.
package enum LogContinuity: Equatable, Sendable {
  /// What stands at the offset of the last record that was counted.
  package enum Found: Equatable, Sendable {
    case record(hash: Int64)
    /// The log has no record at that offset, though the offset lies inside the log.
    case nothing
    /// Nobody looked, or the offset lies outside the log.
    case unknown
  }

  /// Nothing was counted, so nothing can be counted twice.
  case untouched
  /// The last record that was counted is still there.
  case same
  /// The position lies inside the log, and nothing tells whether it is the same log.
  case unproven
  /// Retention removed records that were not counted yet.
  case trimmed(low: Int64)
  /// The same log lost its end: the last record that was counted is there, but the log ends before the position.
  case cut(high: Int64)
  /// The log ends before the last record that was counted: it was made anew, or it lost its end.
  case shorter(high: Int64)
  /// Another record stands where the last counted one stood: the topic was made anew.
  case another(offset: Int64)

  package static func judge(
    nextOffset: Int64, remembered: (offset: Int64, hash: Int64)?, low: Int64, high: Int64,
    found: Found
  ) -> LogContinuity {
    let isRemembered =
      if case .record(let hash) = found, let remembered { hash == remembered.hash } else { false }
    if let remembered, remembered.offset >= low, remembered.offset < high, found != .unknown,
      !isRemembered
    {
      return .another(offset: remembered.offset)
    }
    if nextOffset > high { return isRemembered ? .cut(high: high) : .shorter(high: high) }
    if nextOffset < low { return .trimmed(low: low) }
    if isRemembered { return .same }
    return remembered == nil && nextOffset == low ? .untouched : .unproven
  }

  /// The command that ends the halt; nil where the partition can go on.
  package var remedy: String? {
    switch self {
    case .untouched, .same, .unproven: nil
    case .trimmed, .cut: "meterctl topics accept-gap"
    case .shorter, .another: "meterctl topics new-epoch"
    }
  }

  /// What was found, in words for the operator; nil where the partition can go on.
  package func problem(nextOffset: Int64) -> String? {
    switch self {
    case .untouched, .same, .unproven: nil
    case .trimmed(let low):
      """
      the log begins at \(low), behind the stored offset \(nextOffset): records are gone; run: \
      meterctl topics accept-gap
      """
    case .cut(let high):
      """
      the log ends at \(high), before the stored offset \(nextOffset), and is the one that was \
      counted: its end was lost; run: meterctl topics accept-gap
      """
    case .shorter(let high):
      """
      the log ends at \(high), before the stored offset \(nextOffset): the topic was made anew; \
      run: meterctl topics new-epoch (if it only lost its end: meterctl topics accept-gap)
      """
    case .another(let offset):
      """
      the record at offset \(offset) is not the one remembered: the topic was made anew; run: \
      meterctl topics new-epoch
      """
    }
  }
}
