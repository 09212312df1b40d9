/// What a look at a partition's log found.
package struct LogLook: Sendable, Equatable {
  /// Whether the last record that was counted is still where it was.
  package enum Identity: Sendable, Equatable {
    /// The remembered record is where it was.
    case same
    /// There is nothing to compare: no record is remembered, or it lies outside the log.
    case unknown
    /// Another record, or none, is where the remembered one was.
    case differs
  }

  package var low: Int64
  package var high: Int64
  package var identity: Identity

  package init(low: Int64, high: Int64, identity: Identity) {
    self.low = low
    self.high = high
    self.identity = identity
  }
}

/// Whether a partition's log is the one that was counted, and which command ends a halt.
///
/// The stored position, the last record that was counted, and what the log holds now decide it. The
/// engine and `meterctl topics new-epoch` ask this one function, so that they never advise
/// different things.
package enum LogContinuity: Equatable, Sendable {
  /// Nothing was counted, so nothing can be counted twice. This is also the case if the beginning
  /// is not known yet.
  case untouched
  /// The last record that was counted is still there.
  case same
  /// The position lies inside the log, and nothing tells whether it is the same log.
  case unproven
  /// Retention removed records that were not counted yet.
  case trimmed(low: Int64)
  /// The same log lost its end. The last record that was counted is there, but the log ends before
  /// the position.
  case cut(high: Int64)
  /// The log ends before the last record that was counted. It was created again, or it lost its
  /// end.
  case shorter(high: Int64)
  /// Another record is where the last counted one was, so the topic was created again.
  case another(offset: Int64)

  /// - Parameters:
  ///   - next: the offset that is read next. It is negative while the partition's beginning is not
  ///     known.
  ///   - remembered: the offset of the last record that was counted; nil if none is remembered.
  package init(next: Int64, remembered: Int64?, _ look: LogLook) {
    if next < 0 {
      self = .untouched
    } else if let remembered, look.identity == .differs, remembered >= look.low,
      remembered < look.high
    {
      self = .another(offset: remembered)
    } else if next > look.high {
      self = look.identity == .same ? .cut(high: look.high) : .shorter(high: look.high)
    } else if next < look.low {
      self = .trimmed(low: look.low)
    } else if look.identity == .same {
      self = .same
    } else {
      self = remembered == nil && next == look.low ? .untouched : .unproven
    }
  }

  /// Why the log cannot be read on from `next`, with the remedy. Nil if it can.
  package func standstill(next: Int64) -> Standstill? {
    switch self {
    case .untouched, .same, .unproven: nil
    case .trimmed(let low):
      Standstill(
        .recordsGone,
        """
        the log begins at \(low), after the stored offset \(next): records are gone; run: \
        meterctl topics accept-gap
        """)
    case .cut(let high):
      Standstill(
        .endLost,
        """
        the log ends at \(high), before the stored offset \(next), and is the one that was \
        counted: its end was lost; run: meterctl topics accept-gap
        """)
    case .shorter(let high):
      Standstill(
        .logEndsEarly,
        """
        the log ends at \(high), before the stored offset \(next): the topic was made anew or \
        truncated; run: meterctl topics new-epoch (if it only lost its end: meterctl topics \
        accept-gap)
        """)
    case .another(let offset):
      Standstill(
        .logDiffers,
        """
        the record at offset \(offset) is not the one remembered: the topic was made anew or \
        truncated; run: meterctl topics new-epoch
        """)
    }
  }
}
