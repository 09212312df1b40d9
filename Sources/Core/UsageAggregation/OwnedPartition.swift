import Metering

/// It is a class so that a run of records has to find its partition only once. The state is lent as
/// `inout` for a whole chunk. That costs one check of exclusive access in place of several for each
/// event.
final class OwnedPartition {
  var state: PartitionState

  init(_ state: consuming PartitionState) { self.state = state }
}

/// The state of a partition while this process owns it.
struct PartitionState: ~Copyable {
  let partition: Int32
  /// The next offset to take.
  var position: Int64
  /// Offsets below this one were counted by an earlier flush.
  let countFrom: Int64
  /// `nextOffset` of the last sealed batch.
  var sealedOffset: Int64
  var last: Int64
  var lastHash: Int64
  /// The last record of the flushes before, until it has been found in the log.
  var remembered: (offset: Int64, hash: Int64)?
  var halt: LogAccumulator.Halt?
  let deadLetters: Set<Int64>
  var window: DedupeWindow
  var producers: ProducerSequences

  init(
    partition: Int32, readFrom: Int64, nextOffset: Int64, windowOffsets: Int,
    remembered: (offset: Int64, hash: Int64)?, producers: consuming ProducerSequences,
    deadLetters: Set<Int64>
  ) {
    self.partition = partition
    position = readFrom
    countFrom = nextOffset
    sealedOffset = nextOffset
    last = remembered?.offset ?? -1
    lastHash = remembered?.hash ?? 0
    self.remembered = remembered
    self.deadLetters = deadLetters
    window = DedupeWindow(size: windowOffsets, startOffset: readFrom)
    self.producers = producers
  }
}
