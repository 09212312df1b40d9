/// A partition of a log, as a group sees it that has counted it.
package struct CountedPartitionLog: Sendable, Equatable {
  package var group: String
  package var partition: Int32
  /// The offset that the group reads next.
  package var next: Int64
  /// The offset of the last record that the group counted.
  package var remembered: Int64?
  package var look: LogLook

  package init(
    group: String, partition: Int32, next: Int64, remembered: Int64?, _ look: LogLook
  ) {
    self.group = group
    self.partition = partition
    self.next = next
    self.remembered = remembered
    self.look = look
  }

  package var continuity: LogContinuity {
    LogContinuity(next: next, remembered: remembered, look)
  }
}

/// Why a new epoch would count records twice.
package enum EpochRefusal: Equatable, Sendable {
  /// Only some partitions have another log, and a partition that would be read again does not.
  case nameTheOthers([Int32], same: CountedPartitionLog)
  /// The log is the one that was counted, but it has lost its end.
  case cut(CountedPartitionLog)
  /// The log is the one that was counted.
  case same(CountedPartitionLog)
  /// The log has lost its beginning.
  case trimmed(CountedPartitionLog)
  /// Nothing shows that it is another log.
  case unproven(CountedPartitionLog)

  /// Returns nil if a new epoch would count nothing twice.
  package init?(_ logs: [CountedPartitionLog]) {
    var same: CountedPartitionLog?
    var cut: CountedPartitionLog?
    var trimmed: CountedPartitionLog?
    var unproven: CountedPartitionLog?
    var others: Set<Int32> = []
    for log in logs {
      switch log.continuity {
      case .same: same = same ?? log
      case .cut:
        same = same ?? log
        cut = cut ?? log
      case .shorter, .another: others.insert(log.partition)
      case .trimmed: trimmed = trimmed ?? log
      case .unproven: unproven = unproven ?? log
      case .untouched: break
      }
    }
    if let same, !others.isEmpty {
      self = .nameTheOthers(others.sorted(), same: same)
    } else if let cut {
      self = .cut(cut)
    } else if let same {
      self = .same(same)
    } else if !others.isEmpty {
      return nil
    } else if let trimmed {
      self = .trimmed(trimmed)
    } else if let unproven {
      self = .unproven(unproven)
    } else {
      return nil
    }
  }

  /// One sentence for the operator, with the command that fits.
  package var sentence: String {
    switch self {
    case .nameTheOthers(let others, let same):
      let named = others.prefix(10).map(String.init).joined(separator: " ")
      return
        "\(Self.stillHas(same)): only some partitions are another log; name them: --partition \(named)"
    case .cut(let log):
      return """
        \(Self.stillHas(log)), and its log lost its end at \(log.look.high); run: meterctl topics \
        accept-gap
        """
    case .same(let log):
      return
        "\(Self.stillHas(log)): this log is the one that was counted, and all of it would count again"
    case .trimmed(let log):
      return """
        partition \(log.partition) lost its beginning, up to \(log.look.low); run: meterctl topics \
        accept-gap
        """
    case .unproven(let log):
      return """
        nothing shows that partition \(log.partition) is another log than the one that was counted \
        up to \(log.next)
        """
    }
  }

  private static func stillHas(_ log: CountedPartitionLog) -> String {
    """
    partition \(log.partition) still has the last record that \(log.group) counted (offset \
    \(log.remembered ?? 0))
    """
  }
}
