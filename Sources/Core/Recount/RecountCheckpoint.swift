import Metering

/// What a partition knew of its producers at an offset, for a recount that cannot read all records
/// before it.
package struct RecountCheckpoint: Sendable {
  package struct Producer: Sendable {
    package var name: ExactText
    /// Highest sequence of its valid events; −1: none.
    package var sequence: Int64
    /// Highest sequence of its dead letters; −1: none.
    package var deadSequence: Int64
    /// Its sequences are no longer remembered.
    package var isForgotten: Bool
    /// What had been counted of it.
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

  /// All records before this offset had been judged, and none from it on.
  package var offset: Int64
  /// Those heard least recently first.
  package var producers: [Producer]

  package init(offset: Int64, producers: [Producer]) {
    self.offset = offset
    self.producers = producers
  }
}
