/// An open-addressing index with linear probing. A slot of 32 bits holds the entry's number plus
/// one and 12 bits of its hash.
extension BurstTable {
  private static let entryBits: UInt32 = (1 << 20) - 1

  /// The number of a license's entry, or -1.
  @inline(__always)
  func find(_ text: UnsafeRawBufferPointer) -> Int {
    let hash = hash.hash(text)
    var slot = home(hash)
    let tag = Self.tag(hash)
    while true {
      let value = slots[slot]
      if value == 0 { return -1 }
      if value & ~Self.entryBits == tag {
        let entry = Int(value & Self.entryBits) - 1
        if equals(entry, text) { return entry }
      }
      slot = slot + 1 == slotCount ? 0 : slot + 1
    }
  }

  /// The number of slots is not a power of two, so that growing by half wastes less. The high half
  /// of the product spreads 32 bits evenly.
  @inline(__always)
  private func home(_ hash: UInt64) -> Int {
    Int(((hash & 0xFFFF_FFFF) &* UInt64(slotCount)) >> 32)
  }

  @inline(__always)
  private static func tag(_ hash: UInt64) -> UInt32 {
    UInt32(truncatingIfNeeded: hash >> 32) & ~entryBits
  }

  @inline(__always)
  private func equals(_ entry: Int, _ text: UnsafeRawBufferPointer) -> Bool {
    let n = text.count
    guard Int(entries[entry].length) == n else { return false }
    let key = UnsafeRawPointer(entries + entry)
    guard n > 0, let other = text.baseAddress else { return n == 0 }
    if n > LicenseEntry.inlineBytes { return equalsLong(entry, text) }
    guard n >= 8 else {
      for i in 0..<n
      where key.load(fromByteOffset: i, as: UInt8.self)
        != other.load(fromByteOffset: i, as: UInt8.self)
      { return false }
      return true
    }
    var i = 0
    while i + 8 < n {
      if key.loadUnaligned(fromByteOffset: i, as: UInt64.self)
        != other.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      {
        return false
      }
      i += 8
    }
    return key.loadUnaligned(fromByteOffset: n - 8, as: UInt64.self)
      == other.loadUnaligned(fromByteOffset: n - 8, as: UInt64.self)
  }

  private func equalsLong(_ entry: Int, _ text: UnsafeRawBufferPointer) -> Bool {
    let first = LicenseEntry.inlineBytesOfLong
    let start = UnsafeRawBufferPointer(start: entries + entry, count: first)
    return start.elementsEqual(text[..<first])
      && keys.equals(entries[entry].moreKey, UnsafeRawBufferPointer(rebasing: text[first...]))
  }

  /// The id of an entry.
  func key(_ entry: Int) -> [UInt8] {
    let n = Int(entries[entry].length)
    return [UInt8](unsafeUninitializedCapacity: n) { buffer, count in
      let raw = UnsafeMutableRawBufferPointer(buffer)
      let isLong = n > LicenseEntry.inlineBytes
      let first = isLong ? LicenseEntry.inlineBytesOfLong : n
      raw.copyMemory(from: UnsafeRawBufferPointer(start: entries + entry, count: first))
      if isLong {
        keys.copy(
          entries[entry].moreKey, into: UnsafeMutableRawBufferPointer(rebasing: raw[first..<n]))
      }
      count = n
    }
  }

  /// Makes an entry for an unknown license. If there is no room, it takes the place of another one.
  mutating func insert(_ text: UnsafeRawBufferPointer) -> Int {
    let index: Int
    if count < limit {
      index = count
      count += 1
      if count * 4 > slotCount * 3 { growSlots() }
    } else {
      index = youngest()
      remove(index)
    }
    (entries + index).initialize(to: LicenseEntry())
    setKey(index, text)
    link(index, hash.hash(text))
    return index
  }

  func setKeyInline(_ index: Int, _ text: UnsafeRawBufferPointer) {
    UnsafeMutableRawPointer(entries + index).copyMemory(
      from: text.baseAddress!, byteCount: text.count)
  }

  private mutating func setKey(_ index: Int, _ text: UnsafeRawBufferPointer) {
    let n = text.count
    entries[index].length = UInt8(n)
    guard n > 0 else { return }
    guard n > LicenseEntry.inlineBytes else { return setKeyInline(index, text) }
    let first = LicenseEntry.inlineBytesOfLong
    setKeyInline(index, UnsafeRawBufferPointer(rebasing: text[..<first]))
    entries[index].moreKey = keys.store(UnsafeRawBufferPointer(rebasing: text[first...]))
  }

  /// Enters an entry into the first free slot, beginning at its home.
  func link(_ index: Int, _ hash: UInt64) {
    var slot = home(hash)
    while slots[slot] != 0 { slot = slot + 1 == slotCount ? 0 : slot + 1 }
    slots[slot] = Self.tag(hash) | UInt32(index + 1)
  }

  private mutating func growSlots() {
    slots.deallocate()
    slotCount += slotCount / 2
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: 0, count: slotCount)
    // The newest entry has no key yet. The caller links it.
    for index in 0..<count - 1 { link(index, hash(ofEntry: index)) }
  }

  func hash(ofEntry index: Int) -> UInt64 {
    let n = Int(entries[index].length)
    if n <= LicenseEntry.inlineBytes {
      return hash.hash(UnsafeRawBufferPointer(start: entries + index, count: n))
    }
    return key(index).withUnsafeBytes { hash.hash($0) }
  }

  /// Removes a young license from the index and frees the rest of its id. The caller owns the
  /// entry.
  private mutating func remove(_ index: Int) {
    var slot = home(hash(ofEntry: index))
    while slots[slot] & Self.entryBits != UInt32(index + 1) {
      slot = slot + 1 == slotCount ? 0 : slot + 1
    }
    // Backward shift (Knuth, vol. 3, algorithm 6.4 R). There are no tombstones, so probes stay
    // short under eviction.
    var hole = slot
    var next = slot
    while true {
      next = next + 1 == slotCount ? 0 : next + 1
      let value = slots[next]
      if value == 0 { break }
      let origin = home(hash(ofEntry: Int(value & Self.entryBits) - 1))
      let isBetween =
        hole <= next ? origin > hole && origin <= next : origin > hole || origin <= next
      if !isBetween {
        slots[hole] = value
        hole = next
      }
    }
    slots[hole] = 0
    if Int(entries[index].length) > LicenseEntry.inlineBytes { keys.free(entries[index].moreKey) }
  }
}
