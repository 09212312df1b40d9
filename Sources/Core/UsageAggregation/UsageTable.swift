package import EventCodec
package import Metering

/// One license's usage of one meter within one hour, from one partition. Its two texts follow it in
/// the arena.
package struct UsageGroup {
  package var quantity: Int64 = 0
  package var eventCount: Int64 = 0
  package var firstOffset: Int64
  package var lastOffset: Int64
  /// Hours since 1970, UTC.
  package var hour: Int32
  package var partition: Int32
  fileprivate var next: UInt32 = 0
  fileprivate var firstCell: UInt32 = 0
  /// The cells of the last event, by kind. The next event usually has the same cells.
  fileprivate var lastMinute: UInt32 = 0
  fileprivate var lastDomain: UInt32 = 0
  fileprivate var lastFeature: UInt32 = 0
  /// The `traceparent` of the last event that had one.
  fileprivate var trace: UInt32 = 0
  fileprivate var licenseBytes: UInt16
  fileprivate var meterBytes: UInt16
}

/// A part of a group, which is a minute of its hour or a value of a dimension. The value follows
/// the cell in the arena.
package struct UsageCell {
  package enum Kind: UInt8 { case minute, domain, feature }

  package var quantity: Int64 = 0
  package var eventCount: UInt32 = 0
  fileprivate var next: UInt32 = 0
  fileprivate var group: UInt32
  package let kind: Kind
  /// The minute of the hour, in groups of the kind minute.
  package let minute: UInt8
  fileprivate var valueBytes: UInt16
}

/// The usage that one flush will write. Groups and their cells are in one arena and are found
/// through two open-addressing indexes.
///
/// - An event costs one probe for its group and usually none for its cells. Records that belong
///   together are neighbors in memory.
/// - Entries are not freed one by one. `reset()` empties the table and keeps its memory.
/// - Keys are compared in full. The keyed hashes only help to find them.
/// - A live license-minute takes 68 bytes and the two texts for the group, 32 bytes for the minute,
///   24 bytes and the value for each dimension, and 16 to 32 bytes for slots.
package struct UsageTable: ~Copyable {
  /// Addresses in the arena count units of 8 bytes, so 32 bits reach 32 GiB. This bound is the
  /// largest reasonable size of one flush.
  package static let arenaBytes = 256 << 20
  /// The most room that one event may need, for its group, three cells, their texts and its trace.
  private static let eventBytes = 4_096

  private let arena: UnsafeMutableRawPointer
  /// The used memory in units of 8 bytes. No record lies at 0.
  private var used = 1
  private var firstGroup: UInt32 = 0
  private var lastGroup: UInt32 = 0
  package private(set) var groupCount = 0
  package private(set) var cellCount = 0
  /// The number of groups with a `traceparent`.
  package private(set) var tracedGroupCount = 0
  private var groups = SlotIndex()
  private var cells = SlotIndex()
  private let hash: KeyedHash
  private static let apiCalls: StaticString = "api_calls"

  package init(hash: KeyedHash) {
    self.hash = hash
    // The memory is reserved but not touched. Parts that are never used cost only address space.
    arena = .allocate(byteCount: Self.arenaBytes, alignment: 64)
  }

  deinit { arena.deallocate() }

  package mutating func reset() {
    used = 1
    firstGroup = 0
    lastGroup = 0
    groupCount = 0
    cellCount = 0
    tracedGroupCount = 0
    groups.removeAll()
    cells.removeAll()
  }

  package var isEmpty: Bool { groupCount == 0 }
  package var isFull: Bool { used * 8 + Self.eventBytes > Self.arenaBytes }
  /// The bytes in use, including slots.
  package var bytes: Int { used * 8 + groups.bytes + cells.bytes }

  // MARK: Adding

  /// The hash of license and meter. Together with the hour and the partition it finds the group.
  @inline(__always)
  package func groupHash(_ event: DecodedEvent, hour: Int32, partition: Int32) -> UInt64 {
    let salt = UInt64(UInt32(bitPattern: hour)) << 32 | UInt64(UInt32(bitPattern: partition))
    var h = hash.hash(UnsafeRawBufferPointer(event.subject.buffer), salt)
    // The default meter is the same whether it is named or not. Two hashes would make two groups.
    let isDefault = event.meter.equals(UnsafeRawBufferPointer(Text(Self.apiCalls).buffer))
    if !event.meter.isAbsent, !isDefault {
      h ^= hash.hash(UnsafeRawBufferPointer(event.meter.buffer), salt &+ 1)
    }
    return h
  }

  /// Brings the group's slot into the cache. The result has no meaning.
  @inline(__always)
  package func touch(_ hash: UInt64) -> UInt64 { groups.touch(hash) }

  /// Adds one event.
  ///
  /// - Returns: false if a sum would not fit into 64 bits. Then nothing is added.
  /// - Precondition: not `isFull`.
  @inline(__always)
  package mutating func add(
    _ event: DecodedEvent, groupHash: UInt64, hour: Int32, minute: UInt8,
    partition: Int32, offset: Int64
  ) -> Bool {
    let meter = event.meter.isAbsent ? Text(Self.apiCalls) : event.meter
    let address = findOrAddGroup(event.subject, meter, groupHash, hour, partition, offset)
    let group = self.group(address)
    let (total, overflows) = group.pointee.quantity.addingReportingOverflow(event.quantity)
    // Every cell is a part of the group, so no cell can overflow unless the group does.
    guard !overflows else { return false }
    group.pointee.quantity = total
    group.pointee.eventCount += 1
    group.pointee.firstOffset = min(group.pointee.firstOffset, offset)
    group.pointee.lastOffset = max(group.pointee.lastOffset, offset)

    var cell = group.pointee.lastMinute
    if cell == 0 || self.cell(cell).pointee.minute != minute {
      cell = findOrAddCell(address, .minute, minute, .absent)
      group.pointee.lastMinute = cell
    }
    increase(cell, event.quantity)
    if !event.domain.isAbsent {
      var cell = group.pointee.lastDomain
      if cell == 0 || !value(cell).equals(UnsafeRawBufferPointer(event.domain.buffer)) {
        cell = findOrAddCell(address, .domain, 0, event.domain)
        group.pointee.lastDomain = cell
      }
      increase(cell, event.quantity)
    }
    if !event.feature.isAbsent {
      var cell = group.pointee.lastFeature
      if cell == 0 || !value(cell).equals(UnsafeRawBufferPointer(event.feature.buffer)) {
        cell = findOrAddCell(address, .feature, 0, event.feature)
        group.pointee.lastFeature = cell
      }
      increase(cell, event.quantity)
    }
    if !event.traceparent.isAbsent { note(event.traceparent, of: address) }
    return true
  }

  @inline(never)
  private mutating func note(_ traceparent: Text, of address: UInt32) {
    guard let base = traceparent.base, traceparent.count == TraceContext.length else { return }
    if group(address).pointee.trace == 0 {
      group(address).pointee.trace = allocate(TraceContext.length)
      tracedGroupCount += 1
    }
    pointer(group(address).pointee.trace).copyMemory(
      from: base, byteCount: TraceContext.length)
  }

  @inline(__always)
  private func increase(_ address: UInt32, _ quantity: Int64) {
    let cell = self.cell(address)
    cell.pointee.quantity += quantity
    cell.pointee.eventCount += 1
  }

  private mutating func findOrAddGroup(
    _ license: Text, _ meter: Text, _ hash: UInt64, _ hour: Int32, _ partition: Int32,
    _ offset: Int64
  ) -> UInt32 {
    var probe = groups.probe(hash)
    while let address = groups.next(&probe) {
      let group = self.group(address)
      if group.pointee.hour == hour, group.pointee.partition == partition,
        self.license(address).equals(UnsafeRawBufferPointer(license.buffer)),
        self.meter(address).equals(UnsafeRawBufferPointer(meter.buffer))
      {
        return address
      }
    }
    let address = allocate(MemoryLayout<UsageGroup>.size + license.count + meter.count)
    self.group(address).initialize(
      to: UsageGroup(
        firstOffset: offset, lastOffset: offset, hour: hour, partition: partition,
        licenseBytes: UInt16(license.count), meterBytes: UInt16(meter.count)))
    let texts = pointer(address) + MemoryLayout<UsageGroup>.size
    texts.copyMemory(from: license.base!, byteCount: license.count)
    (texts + license.count).copyMemory(from: meter.base!, byteCount: meter.count)
    groups.insert(hash, address)
    if lastGroup == 0 { firstGroup = address } else { group(lastGroup).pointee.next = address }
    lastGroup = address
    groupCount += 1
    return address
  }

  private mutating func findOrAddCell(
    _ owner: UInt32, _ kind: UsageCell.Kind, _ minute: UInt8, _ value: Text
  ) -> UInt32 {
    let salt = UInt64(owner) << 16 | UInt64(minute) << 8 | UInt64(kind.rawValue)
    let hash = hash.hash(UnsafeRawBufferPointer(value.buffer), salt)
    var probe = cells.probe(hash)
    while let address = cells.next(&probe) {
      let cell = self.cell(address)
      if cell.pointee.group == owner, cell.pointee.kind == kind, cell.pointee.minute == minute,
        self.value(address).equals(UnsafeRawBufferPointer(value.buffer))
      {
        return address
      }
    }
    let address = allocate(MemoryLayout<UsageCell>.size + value.count)
    cell(address).initialize(
      to: UsageCell(
        next: group(owner).pointee.firstCell, group: owner, kind: kind, minute: minute,
        valueBytes: UInt16(value.count)))
    if let base = value.base {
      (pointer(address) + MemoryLayout<UsageCell>.size).copyMemory(
        from: base, byteCount: value.count)
    }
    group(owner).pointee.firstCell = address
    cells.insert(hash, address)
    cellCount += 1
    return address
  }

  private mutating func allocate(_ bytes: Int) -> UInt32 {
    let address = used
    used += (bytes + 7) / 8
    precondition(used * 8 <= Self.arenaBytes, "the caller asks isFull before every event")
    return UInt32(address)
  }

  // MARK: Reading

  /// Calls `body` for every group in the order of their first events.
  package func forEachGroup(
    _ body: (_ group: UsageGroup, _ license: Text, _ meter: Text, _ address: UInt32) throws -> Void
  ) rethrows {
    var address = firstGroup
    while address != 0 {
      try body(group(address).pointee, license(address), meter(address), address)
      address = group(address).pointee.next
    }
  }

  /// The trace of the last event of a group that has one.
  package func trace(of address: UInt32) -> TraceContext? {
    let trace = group(address).pointee.trace
    guard trace != 0 else { return nil }
    return TraceContext(text(pointer(trace), UInt16(TraceContext.length)).buffer)
  }

  /// Calls `body` for every cell of a group, beginning with the latest.
  package func forEachCell(
    of address: UInt32, _ body: (_ cell: UsageCell, _ value: Text) throws -> Void
  ) rethrows {
    var cell = group(address).pointee.firstCell
    while cell != 0 {
      try body(self.cell(cell).pointee, value(cell))
      cell = self.cell(cell).pointee.next
    }
  }

  @inline(__always)
  private func pointer(_ address: UInt32) -> UnsafeMutableRawPointer { arena + Int(address) * 8 }

  @inline(__always)
  private func group(_ address: UInt32) -> UnsafeMutablePointer<UsageGroup> {
    pointer(address).assumingMemoryBound(to: UsageGroup.self)
  }

  @inline(__always)
  private func cell(_ address: UInt32) -> UnsafeMutablePointer<UsageCell> {
    pointer(address).assumingMemoryBound(to: UsageCell.self)
  }

  @inline(__always)
  private func text(_ pointer: UnsafeMutableRawPointer, _ count: UInt16) -> Text {
    Text(base: UnsafePointer(pointer.assumingMemoryBound(to: UInt8.self)), count: Int(count))
  }

  @inline(__always)
  private func license(_ address: UInt32) -> Text {
    text(pointer(address) + MemoryLayout<UsageGroup>.size, group(address).pointee.licenseBytes)
  }

  @inline(__always)
  private func meter(_ address: UInt32) -> Text {
    let group = self.group(address)
    return text(
      pointer(address) + MemoryLayout<UsageGroup>.size + Int(group.pointee.licenseBytes),
      group.pointee.meterBytes)
  }

  @inline(__always)
  private func value(_ address: UInt32) -> Text {
    text(pointer(address) + MemoryLayout<UsageCell>.size, cell(address).pointee.valueBytes)
  }
}

extension Text {
  @inline(__always)
  fileprivate init(_ literal: StaticString) {
    self.init(base: literal.utf8Start, count: literal.utf8CodeUnitCount)
  }
}

/// An open-addressing index from a 64-bit hash to an address. The owner compares the keys. At most
/// half of the slots are used.
private struct SlotIndex: ~Copyable {
  /// The slots. The high half is the hash's high 32 bits, and the low half is the address. An empty
  /// slot is 0.
  private var slots: UnsafeMutablePointer<UInt64>
  private var bits = 12
  private var count = 0

  struct Probe {
    fileprivate var slot: Int
    fileprivate let tag: UInt64
  }

  init() {
    slots = .allocate(capacity: 1 << bits)
    slots.initialize(repeating: 0, count: 1 << bits)
  }

  deinit { slots.deallocate() }

  var bytes: Int { 8 << bits }

  mutating func removeAll() {
    if count == 0 { return }
    slots.update(repeating: 0, count: 1 << bits)
    count = 0
  }

  @inline(__always)
  func touch(_ hash: UInt64) -> UInt64 { slots[Int(truncatingIfNeeded: hash >> UInt64(64 - bits))] }

  @inline(__always)
  func probe(_ hash: UInt64) -> Probe {
    Probe(slot: Int(truncatingIfNeeded: hash >> UInt64(64 - bits)), tag: hash & ~0xFFFF_FFFF)
  }

  /// The next address whose hash looks alike, or nil.
  @inline(__always)
  func next(_ probe: inout Probe) -> UInt32? {
    while true {
      let entry = slots[probe.slot]
      if entry == 0 { return nil }
      probe.slot = (probe.slot + 1) & (1 << bits - 1)
      if entry & ~0xFFFF_FFFF == probe.tag { return UInt32(truncatingIfNeeded: entry) }
    }
  }

  mutating func insert(_ hash: UInt64, _ address: UInt32) {
    if (count + 1) * 2 > 1 << bits { grow() }
    put(hash & ~0xFFFF_FFFF | UInt64(address))
    count += 1
  }

  private func put(_ entry: UInt64) {
    var slot = Int(truncatingIfNeeded: entry >> UInt64(64 - bits))
    while slots[slot] != 0 { slot = (slot + 1) & (1 << bits - 1) }
    slots[slot] = entry
  }

  private mutating func grow() {
    let old = slots
    let oldCount = 1 << bits
    bits += 1
    slots = .allocate(capacity: 1 << bits)
    slots.initialize(repeating: 0, count: 1 << bits)
    for i in 0..<oldCount where old[i] != 0 { put(old[i]) }
    old.deallocate()
  }
}
