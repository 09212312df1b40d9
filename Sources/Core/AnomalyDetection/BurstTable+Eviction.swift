/// Chooses whose place is taken when the table is full. Licenses that were seen once go first, so
/// that millions of invented ids displace each other and not the licenses that are in use.
extension BurstTable {
  /// Finds the entry of a young license with the clock algorithm (Corbató 1968). One that was seen
  /// again since the hand last passed is spared, up to three times.
  ///
  /// - Complexity: amortised O(1). An eighth of the entries are young, and each is spared at most
  ///   as often as it was seen.
  mutating func youngest() -> Int {
    while true {
      let index = hand
      hand = hand + 1 == limit ? 0 : hand + 1
      if entries[index].isGrown { continue }
      if entries[index].references == 0 { return index }
      entries[index].references -= 1
    }
  }

  /// Finds a place for a detector. It is a new one, or belongs to the license, among several, that
  /// has been silent for longest in proportion to how long it has been known. That license becomes
  /// young again.
  mutating func takeBlock(now: Int32) -> Int {
    if blocksUsed < blockLimit {
      blocksUsed += 1
      return blocksUsed - 1
    }
    var worst = -1
    var worstShare: Float = -1
    var seen = 0
    while seen < 64 {
      let index = blockHand
      blockHand = blockHand + 1 >= count ? 0 : blockHand + 1
      guard entries[index].isGrown else { continue }
      seen += 1
      let silence = Float(max(Int64(now) - Int64(entries[index].open.minute), 0) + 1)
      let known = Float(blocks[entries[index].block].baseline.minutesSeen) + 1
      if silence / known > worstShare {
        worstShare = silence / known
        worst = index
      }
    }
    let block = entries[worst].block
    entries[worst].isGrown = false
    entries[worst].records = 0
    entries[worst].references = 0
    return block
  }
}
