/// Borrowed UTF-8 bytes. They belong to a record's value, or to the decoder's arena if the text had
/// escapes.
///
/// It is valid until the batch that holds the record is recycled, and until the decoder's `reset()`
/// is called.
package struct Text: Sendable {
  // The memory is borrowed, and nobody writes to it while a Text uses it (see above).
  nonisolated(unsafe) package let base: UnsafePointer<UInt8>?
  package let count: Int

  package static let absent = Text(base: nil, count: 0)

  @inline(__always)
  package init(base: UnsafePointer<UInt8>?, count: Int) {
    self.base = base
    self.count = count
  }

  package var isAbsent: Bool { base == nil }

  @inline(__always)
  package var buffer: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: base, count: count) }

  /// A copy for paths that are not hot. The bytes are valid UTF-8.
  package var string: String { String(decoding: buffer, as: UTF8.self) }

  @inline(__always)
  package func equals(_ other: UnsafeRawBufferPointer) -> Bool {
    guard count == other.count else { return false }
    return Bytes.areEqual(UnsafeRawPointer(base), other.baseAddress, count: count)
  }
}

package enum Bytes {
  /// Compares eight bytes at a time. With `count` 0 the result is equal for any pointers.
  @inline(__always)
  package static func areEqual(
    _ a: UnsafeRawPointer?, _ b: UnsafeRawPointer?, count: Int
  ) -> Bool {
    guard let a, let b else { return count == 0 }
    @inline(__always) func word(_ p: UnsafeRawPointer, _ i: Int) -> UInt64 {
      p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
    }
    if count < 8 {
      for i in 0..<count
      where a.load(fromByteOffset: i, as: UInt8.self) != b.load(fromByteOffset: i, as: UInt8.self) {
        return false
      }
      return true
    }
    var i = 0
    while i + 8 < count {
      if word(a, i) != word(b, i) { return false }
      i += 8
    }
    // This compares the last eight bytes, some of them for the second time.
    return word(a, count - 8) == word(b, count - 8)
  }
}

/// Bump-allocated memory for unescaped texts, freed all at once.
///
/// `reset()` keeps the chunks, so that steady state allocates nothing. Texts with escapes are rare.
struct TextArena: ~Copyable {
  private static let chunkBytes = 256 * 1024
  private var chunks: [UnsafeMutablePointer<UInt8>] = []
  private var chunk = -1
  private var used = TextArena.chunkBytes

  deinit { for chunk in chunks { chunk.deallocate() } }

  mutating func reset() {
    chunk = -1
    used = Self.chunkBytes
  }

  /// Returns room for `bytes`, which are at most a record's value and so always fit into a chunk.
  mutating func reserve(_ bytes: Int) -> UnsafeMutablePointer<UInt8> {
    precondition(bytes <= Self.chunkBytes, "a text is never longer than a record's value")
    if used + bytes > Self.chunkBytes {
      chunk += 1
      used = 0
      if chunk == chunks.count { chunks.append(.allocate(capacity: Self.chunkBytes)) }
    }
    defer { used += bytes }
    return chunks[chunk] + used
  }
}
