/// Turns the state into bytes for checkpoints: a header, the entries, the detectors and the ends of
/// long ids, in little-endian and as they are in memory. The layout is private to one version.
/// Another version starts over.
extension BurstTable {
  private static let magic: UInt32 = 0x5453_5242
  /// Raised whenever the layout or the meaning of a field changes.
  private static let version: UInt32 = 2
  private static let headerBytes = 40

  /// Appends the state. The bytes do not depend on the seed of the hash.
  ///
  /// - Complexity: O(count), at about the speed of copying.
  package func serialize(into bytes: inout [UInt8]) {
    let start = bytes.count
    let entryBytes = count * MemoryLayout<LicenseEntry>.stride
    let blockBytes = blocksUsed * MemoryLayout<BurstDetector>.stride
    bytes.reserveCapacity(start + Self.headerBytes + entryBytes + blockBytes)
    let layout = UInt32(
      MemoryLayout<LicenseEntry>.stride << 16 | MemoryLayout<BurstDetector>.stride)
    let header: [UInt32] = [
      Self.magic, Self.version, layout, UInt32(count), UInt32(blocksUsed), UInt32(hand),
      UInt32(blockHand), 0, 0, 0,
    ]
    header.withUnsafeBytes { bytes.append(contentsOf: $0) }
    bytes.append(contentsOf: UnsafeRawBufferPointer(start: entries, count: entryBytes))
    bytes.append(contentsOf: UnsafeRawBufferPointer(start: blocks, count: blockBytes))
    for index in 0..<count where Int(entries[index].length) > LicenseEntry.inlineBytes {
      bytes.append(contentsOf: key(index)[LicenseEntry.inlineBytesOfLong...])
    }
    let size = bytes.count - start
    bytes.withUnsafeMutableBytes { all in
      let own = UnsafeMutableRawBufferPointer(rebasing: all[start...])
      own.storeBytes(of: UInt32(size), toByteOffset: 28, as: UInt32.self)
      let sum = Self.checksum(UnsafeRawBufferPointer(own))
      own.storeBytes(of: sum, toByteOffset: 32, as: UInt64.self)
    }
  }

  /// Reads the state that `serialize` wrote.
  ///
  /// - Returns: nil for anything else: another version, truncated or changed bytes, numbers that
  ///   adding cannot produce, or more licenses than the settings allow.
  package init?(settings: Settings = Settings(), seed: UInt64, bytes: UnsafeRawBufferPointer) {
    self.init(settings: settings, seed: seed)
    guard read(bytes) else { return nil }
  }

  private mutating func read(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count >= Self.headerBytes else { return false }
    func field(_ index: Int) -> UInt32 {
      bytes.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
    }
    let entryStride = MemoryLayout<LicenseEntry>.stride
    let blockStride = MemoryLayout<BurstDetector>.stride
    let (newCount, newBlocks) = (Int(field(3)), Int(field(4)))
    guard field(0) == Self.magic, field(1) == Self.version,
      field(2) == UInt32(entryStride << 16 | blockStride), newCount <= limit,
      newBlocks <= blockLimit, Int(field(5)) < limit, Int(field(6)) <= limit,
      Int(field(7)) == bytes.count,
      bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self) == Self.checksum(bytes)
    else { return false }
    let blocksStart = Self.headerBytes + newCount * entryStride
    let keysStart = blocksStart + newBlocks * blockStride
    guard keysStart <= bytes.count else { return false }
    (hand, blockHand, blocksUsed) = (Int(field(5)), Int(field(6)), newBlocks)
    if newCount > 0 {
      UnsafeMutableRawPointer(entries).copyMemory(
        from: bytes.baseAddress! + Self.headerBytes, byteCount: newCount * entryStride)
    }
    if newBlocks > 0 {
      UnsafeMutableRawPointer(blocks).copyMemory(
        from: bytes.baseAddress! + blocksStart, byteCount: newBlocks * blockStride)
    }
    return check(newCount) && readKeys(newCount, bytes[keysStart...])
  }

  /// Whether entries and detectors fit together, with exactly one entry for each detector.
  private func check(_ newCount: Int) -> Bool {
    var isTaken = [Bool](repeating: false, count: blocksUsed)
    for index in 0..<newCount {
      let entry = entries[index]
      guard entry.isValid(blocks: blocksUsed) else { return false }
      guard entry.isGrown else { continue }
      guard !isTaken[entry.block], blocks[entry.block].isValid,
        blocks[entry.block].closed == entry.open.minute - 2
      else { return false }
      isTaken[entry.block] = true
    }
    return isTaken.allSatisfy { $0 }
  }

  /// Stores the ends of long ids and enters all ids into the index. It is false if an id occurs
  /// twice.
  private mutating func readKeys(_ newCount: Int, _ bytes: Slice<UnsafeRawBufferPointer>) -> Bool {
    var rest = UnsafeRawBufferPointer(rebasing: bytes)
    slots.deallocate()
    while newCount * 4 > slotCount * 3 { slotCount += slotCount / 2 }
    slots = .allocate(capacity: slotCount)
    slots.initialize(repeating: 0, count: slotCount)
    for index in 0..<newCount {
      let length = Int(entries[index].length)
      if length > LicenseEntry.inlineBytes {
        let more = length - LicenseEntry.inlineBytesOfLong
        guard more <= rest.count else { return false }
        entries[index].moreKey = keys.store(UnsafeRawBufferPointer(rebasing: rest[..<more]))
        rest = UnsafeRawBufferPointer(rebasing: rest[more...])
      }
      let key = key(index)
      guard key.withUnsafeBytes({ find($0) }) < 0 else { return false }
      link(index, hash(ofEntry: index))
      count = index + 1
    }
    return rest.isEmpty
  }

  /// Folded multiplications over everything except the checksum itself. It detects damage, not
  /// forgery.
  private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var sum: UInt64 = 0x9E37_79B9_7F4A_7C15 ^ UInt64(bytes.count)
    func absorb(_ x: UInt64, _ y: UInt64) {
      let product = (x ^ 0xC2B2_AE3D_27D4_EB4F).multipliedFullWidth(by: y ^ sum)
      sum = product.high ^ product.low &+ 0x1656_67B1_9E37_79F9
    }
    func word(_ offset: Int) -> UInt64 {
      bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }
    absorb(word(0), word(8))
    absorb(word(16), word(24))
    var offset = headerBytes
    while offset + 16 <= bytes.count {
      absorb(word(offset), word(offset + 8))
      offset += 16
    }
    while offset < bytes.count {
      absorb(UInt64(bytes[offset]), 0x1656_67B1_9E37_79F9)
      offset += 1
    }
    return sum
  }
}
