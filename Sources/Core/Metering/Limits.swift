/// Every bound on what one record may cost, with its derivation.
///
/// Sizes are in UTF-8 bytes after unescaping, times in milliseconds. `docs/event-validation.md`
/// says where each is checked.
package enum Limits {
  /// The contract's bound on a record's value.
  package static let valueBytes = 65_536
  /// RFC 8259 section 9 lets a parser bound the nesting. This is deep enough for any honest
  /// document.
  package static let nestingDepth = 512
  /// The bound of `id` and `source`, which are only hashed and never stored.
  package static let identityBytes = 1_024
  /// The bound of `subject`. It is a part of B-tree keys, whose rows PostgreSQL bounds at 2,704
  /// bytes.
  package static let subjectBytes = 512
  /// The bound of `producer`, which is a part of a B-tree key together with a topic and a group.
  package static let producerBytes = 256
  /// The bound of `import`, which is a part of a B-tree key.
  package static let importBytes = 256
  /// The bound of `data.meter`, which follows from its pattern `[a-z][a-z0-9_]{0,63}`.
  package static let meterBytes = 64
  /// Values of `domain` and `feature` are cut at this length. A name in DNS has at most 253 bytes.
  package static let dimensionBytes = 256
  /// The default of `METER_MAX_QUANTITY`.
  package static let quantity: Int64 = 1_000_000_000
  /// The upper bound of `METER_MAX_QUANTITY` is 10^17, which is also the most that one license may
  /// use in one day and meter. A larger event could only put its license into quarantine.
  package static let largestQuantity: Int64 = 100_000_000_000_000_000
  /// The default of `METER_MAX_EVENT_AGE` is 35 days, which is the longest month and four days.
  package static let eventAgeMilliseconds: Int64 = 35 * 86_400_000
  /// The upper bound of `METER_MAX_EVENT_AGE` is a hundred years, which is longer than any log.
  package static let largestEventAgeMilliseconds: Int64 = 36_525 * 86_400_000
  /// How far an event's time may be ahead of its record's.
  package static let aheadMilliseconds: Int64 = 3_600_000
  /// For how many producers a partition remembers the sequences. See decision 0010.
  package static let producersPerPartition = 4_096
  /// The default size of the dedupe window, in offsets of a partition.
  package static let dedupeWindowOffsets = 262_144
}
