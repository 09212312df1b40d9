import Metering

/// What a partition knew about its producers at an offset. It is for a recount that cannot read all
/// records before that offset.
package struct RecountCheckpoint: Sendable {
  package struct Producer: Sendable {
    package var name: ExactText
    /// The highest sequence of its valid events, or −1.
    package var sequence: Int64
    /// The highest sequence of its dead letters, or −1.
    package var deadSequence: Int64
    /// Whether its sequences are no longer remembered.
    package var isForgotten: Bool
    /// What had been counted for it.
    package var entry: LedgerEntry

    package init(
      name: ExactText, sequence: Int64, deadSequence: Int64 = -1, isForgotten: Bool = false,
      entry: LedgerEntry = LedgerEntry()
    ) {
      self.name = name
      self.sequence = sequence
      self.deadSequence = deadSequence
      self.isForgotten = isForgotten
      self.entry = entry
    }
  }

  /// All records before this offset had been judged, and no record from it on.
  package var offset: Int64
  /// The producers, beginning with the one heard least recently.
  package var producers: [Producer]

  package init(offset: Int64, producers: [Producer]) {
    self.offset = offset
    self.producers = producers
  }
}
