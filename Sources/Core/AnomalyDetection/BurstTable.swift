/// The burst detectors of all licenses of one partition, in bounded memory.
///
/// - An add to the newest minute of a known license costs a probe, an addition and a comparison.
///   Nothing is allocated.
/// - A license is young while it was seen in at most two different minutes. It then takes 52 bytes,
///   which hold those minutes. From the third minute on it has a `BurstDetector` (268 bytes), which
///   is given them in order.
/// - At `Settings.maximumLicenses`, the place of a young license is taken
///   (`BurstTable+Eviction.swift`).
package struct BurstTable: ~Copyable {
  package struct Settings: Sendable {
    /// The most licenses that are remembered, 16 to 1,000,000.
    package var maximumLicenses = 65_536

    package init() {}
    package init(maximumLicenses: Int) { self.maximumLicenses = maximumLicenses }
  }

  /// The length in bytes of the longest license id that is judged.
  package static let longestKey = 255

  let settings: Settings
  let hash: LicenseHash
  let limit: Int
  /// An eighth of the places is kept for young licenses, so that there is always one to take.
  let blockLimit: Int
  let entries: UnsafeMutablePointer<LicenseEntry>
  let blocks: UnsafeMutablePointer<BurstDetector>
  var keys: KeyPool
  var slots: UnsafeMutablePointer<UInt32>
  var slotCount: Int
  /// The number of known licenses.
  package internal(set) var count = 0
  /// Detectors in use. They move from license to license and never become free again.
  var blocksUsed = 0
  /// Searches for a young license, and for a detector, continue here.
  var hand = 0
  var blockHand = 0

  package init(settings: Settings = Settings(), seed: UInt64) {
    self.settings = settings
    hash = LicenseHash(seed: seed)
    limit = min(max(settings.maximumLicenses, 16), 1_000_000)
    blockLimit = limit - limit / 8
    // Reserved but not touched. Memory that is never used costs only address space.
    entries = .allocate(capacity: limit)
    blocks = .allocate(capacity: blockLimit)
    keys = KeyPool(keys: limit, longestKey: Self.longestKey)
    slotCount = 32
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: 0, count: slotCount)
  }

  deinit {
    entries.deallocate()
    blocks.deallocate()
    slots.deallocate()
  }

  /// Memory in use, in bytes.
  package var bytes: Int {
    slotCount * 4 + count * MemoryLayout<LicenseEntry>.stride
      + blocksUsed * MemoryLayout<BurstDetector>.stride + keys.bytes
  }

  /// Adds calls of a license.
  ///
  /// - Parameters:
  ///   - license: the id. Ids longer than `longestKey` are not judged.
  ///   - minute: the minute of the event's time, since 1970. The newest minute of a license and the
  ///     one before it are judged. Earlier minutes are at most learnt.
  ///   - calls: negative values count as 0.
  /// - Returns: the burst that these calls make clear, if any. A burst is returned once; the next
  ///   one can follow after its end and the cool-down.
  /// - Complexity: amortised O(1). After a silence it is O(hours), for fourteen days at most.
  package mutating func add(license: UnsafeBufferPointer<UInt8>, minute: Int32, calls: Int64)
    -> Burst?
  {
    let text = UnsafeRawBufferPointer(license)
    let found = find(text)
    if found >= 0 {
      let entry = entries + found
      if entry.pointee.isGrown {
        var open = entry.pointee.open
        if minute == open.minute {
          open.calls = BurstDetector.sum(open.calls, calls)
          entry.pointee.open = open
          if Float(open.calls) < open.alarm { return nil }
        }
        return addSlowly(entry, minute, calls, isCounted: minute == open.minute)
      }
      return addYoung(found, minute, calls)
    }
    guard text.count <= Self.longestKey else { return nil }
    let entry = insert(text)
    entries[entry].records = 1
    entries[entry].setRecord(0, WeekClock.bounded(minute), BurstDetector.sum(0, calls))
    return nil
  }

  @inline(never)
  private mutating func addSlowly(
    _ entry: UnsafeMutablePointer<LicenseEntry>, _ minute: Int32, _ calls: Int64, isCounted: Bool
  ) -> Burst? {
    var open = entry.pointee.open
    var previous = entry.pointee.previous
    let burst = blocks[entry.pointee.block].add(
      isCounted ? 0 : calls, at: WeekClock.bounded(minute), &open, &previous)
    entry.pointee.open = open
    entry.pointee.previous = previous
    return burst
  }

  @inline(never)
  private mutating func addYoung(_ index: Int, _ given: Int32, _ calls: Int64) -> Burst? {
    let minute = WeekClock.bounded(given)
    let entry = entries + index
    if entry.pointee.references < LicenseEntry.mostReferences { entry.pointee.references += 1 }
    let records = Int(entry.pointee.records)
    for record in 0..<records where entry.pointee.recordMinute(record) == minute {
      entry.pointee.setRecord(
        record, minute, BurstDetector.sum(entry.pointee.recordCalls(record), calls))
      return nil
    }
    if records < 2 {
      entry.pointee.setRecord(records, minute, BurstDetector.sum(0, calls))
      entry.pointee.records += 1
      return nil
    }
    return grow(index, minute, calls)
  }

  /// Gives a license its detector, and gives that what was seen so far.
  private mutating func grow(_ index: Int, _ minute: Int32, _ calls: Int64) -> Burst? {
    let entry = entries + index
    let block = takeBlock(now: minute)
    let a = (entry.pointee.recordMinute(0), entry.pointee.recordCalls(0))
    let b = (entry.pointee.recordMinute(1), entry.pointee.recordCalls(1))
    let first = a.0 < b.0 ? a : b
    let second = a.0 < b.0 ? b : a
    var detector = BurstDetector(firstMinute: first.0)
    var open = OpenMinute(calls: 0, minute: first.0, alarm: .infinity)
    var previous: Int64 = 0
    var burst = detector.add(first.1, at: first.0, &open, &previous)
    burst = detector.add(second.1, at: second.0, &open, &previous) ?? burst
    burst = detector.add(calls, at: minute, &open, &previous) ?? burst
    (blocks + block).initialize(to: detector)
    entry.pointee.isGrown = true
    entry.pointee.block = block
    entry.pointee.open = open
    entry.pointee.previous = previous
    return burst
  }
}
