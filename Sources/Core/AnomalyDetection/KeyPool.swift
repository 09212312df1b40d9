/// The ends of long license ids, in chained chunks of one size. Nothing fragments, whatever lengths
/// customers choose.
struct KeyPool: ~Copyable {
  private static let textBytes = 28
  private static let chunkBytes = 32
  static let none = UInt32.max

  private let base: UnsafeMutableRawPointer
  private let limit: Int
  /// The number of chunks that were ever used.
  private(set) var used = 0
  private var firstFree = Self.none

  /// Reserves room for this many ids of `longestKey` bytes. The memory is not touched, and what is
  /// never used costs only address space.
  init(keys: Int, longestKey: Int) {
    limit = keys * Self.chunks(longestKey)
    base = .allocate(byteCount: max(limit, 1) * Self.chunkBytes, alignment: 8)
  }

  deinit { base.deallocate() }

  var bytes: Int { used * Self.chunkBytes }

  static func chunks(_ length: Int) -> Int {
    length <= LicenseEntry.inlineBytes
      ? 0 : (length - LicenseEntry.inlineBytesOfLong + textBytes - 1) / textBytes
  }

  private func next(_ chunk: UInt32) -> UnsafeMutablePointer<UInt32> {
    (base + Int(chunk) * Self.chunkBytes).assumingMemoryBound(to: UInt32.self)
  }

  private func text(_ chunk: UInt32) -> UnsafeMutableRawPointer {
    base + Int(chunk) * Self.chunkBytes + 4
  }

  /// Stores the rest of an id, and returns the number of its first chunk.
  mutating func store(_ rest: UnsafeRawBufferPointer) -> UInt32 {
    var first = Self.none
    var last = Self.none
    var done = 0
    while done < rest.count {
      let chunk: UInt32
      if firstFree != Self.none {
        chunk = firstFree
        firstFree = next(chunk).pointee
      } else {
        precondition(used < limit, "more long ids than entries")
        chunk = UInt32(used)
        used += 1
      }
      let part = min(rest.count - done, Self.textBytes)
      text(chunk).copyMemory(from: rest.baseAddress! + done, byteCount: part)
      next(chunk).pointee = Self.none
      if last == Self.none { first = chunk } else { next(last).pointee = chunk }
      last = chunk
      done += part
    }
    return first
  }

  mutating func free(_ first: UInt32) {
    var chunk = first
    while chunk != Self.none {
      let following = next(chunk).pointee
      next(chunk).pointee = firstFree
      firstFree = chunk
      chunk = following
    }
  }

  func equals(_ first: UInt32, _ rest: UnsafeRawBufferPointer) -> Bool {
    var chunk = first
    var done = 0
    while done < rest.count {
      let part = min(rest.count - done, Self.textBytes)
      let other = UnsafeRawBufferPointer(start: text(chunk), count: part)
      guard other.elementsEqual(rest[done..<done + part]) else { return false }
      done += part
      chunk = next(chunk).pointee
    }
    return true
  }

  func copy(_ first: UInt32, into rest: UnsafeMutableRawBufferPointer) {
    var chunk = first
    var done = 0
    while done < rest.count {
      let part = min(rest.count - done, Self.textBytes)
      (rest.baseAddress! + done).copyMemory(from: text(chunk), byteCount: part)
      done += part
      chunk = next(chunk).pointee
    }
  }
}
