import EventCodec
import MeteringTestKit
import Testing
import UsageAggregation

@Suite("Hashing with keys")
struct KeyedHashTests {
  private struct Key: Hashable {
    var high: UInt64
    var low: UInt64
    init(_ identity: Identity) { (high, low) = (identity.high, identity.low) }
  }

  private func identity(
    _ subject: [UInt8], _ source: [UInt8], _ id: [UInt8], _ hash: KeyedHash = fixedHash
  ) -> Identity {
    let store = ByteStore()
    return withExtendedLifetime(store) {
      hash.identity(subject: store.text(subject), source: store.text(source), id: store.text(id))
    }
  }

  @Test("A million identities do not collide, nor do their halves or table hashes")
  func noCollisions() {
    var identities: Set<Key> = []
    var highs: Set<UInt64> = []
    var tableHashes: Set<UInt64> = []
    identities.reserveCapacity(1_000_000)
    let store = ByteStore()
    let subject = store.text("lic_abc123")
    let source = store.text("/validation/eu-1")
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 12) { buffer in
      for i in 0..<12 { buffer[i] = 0x30 }
      for n in 0..<1_000_000 {
        // These are ids of 6 to 12 digits. Neighbors differ in one bit, as those of counters do.
        var rest = n / 7
        let length = n % 7 + 6
        for i in stride(from: length - 1, through: 0, by: -1) {
          buffer[i] = 0x30 + UInt8(rest % 10)
          rest /= 10
        }
        let id = Text(base: buffer.baseAddress, count: length)
        let identity = fixedHash.identity(subject: subject, source: source, id: id)
        identities.insert(Key(identity))
        highs.insert(identity.high)
        tableHashes.insert(fixedHash.hash(UnsafeRawBufferPointer(id.buffer), 0))
      }
    }
    #expect(identities.count == 1_000_000)
    #expect(highs.count == 1_000_000)
    #expect(tableHashes.count == 1_000_000)
  }

  @Test("Where one text ends and the next begins is part of what is hashed")
  func boundaries() {
    let whole = bytes("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef")
    var seen: [Key: (Int, Int)] = [:]
    for first in 0...whole.count {
      for second in first...whole.count {
        let key = Key(
          identity(Array(whole[..<first]), Array(whole[first..<second]), Array(whole[second...])))
        if let other = seen.updateValue((first, second), forKey: key) {
          Issue.record("cut at \(first), \(second) and at \(other)")
        }
      }
    }
  }

  @Test("Texts of one repeated byte differ by their length, NUL among them")
  func lengths() {
    for byte in [0x00, 0x20, 0x61, 0xFF] as [UInt8] {
      var seen: Set<Key> = []
      var hashes: Set<UInt64> = []
      for length in 0...300 {
        let text = [UInt8](repeating: byte, count: length)
        seen.insert(Key(identity(text, [0x61], [0x62])))
        seen.insert(Key(identity([0x61], text, [0x62])))
        seen.insert(Key(identity([0x61], [0x62], text)))
        hashes.insert(text.withUnsafeBytes { fixedHash.hash($0, 0) })
      }
      // One "a" before "a" is the same identity as one after it.
      #expect(seen.count == (byte == 0x61 ? 902 : 903))
      #expect(hashes.count == 301)
    }
  }

  @Test("Every byte of a text is part of what is hashed, at every length")
  func everyByte() {
    for length in 1...80 {
      var text = [UInt8](repeating: 0x61, count: length)
      var seen: Set<Key> = [Key(identity(text, [], []))]
      for position in 0..<length {
        for bit in 0..<8 {
          text[position] ^= 1 << UInt8(bit)
          seen.insert(Key(identity(text, [], [])))
          text[position] ^= 1 << UInt8(bit)
        }
      }
      #expect(seen.count == 1 + length * 8)
    }
  }

  @Test("Nobody finds two texts that collide under every key by choosing their words and lengths")
  func noKeylessCollisions() {
    // The length was once folded into the first word by a known factor. Texts of 16 and 15 bytes
    // then collided under any keys, if their last eight bytes were the same and their first words
    // undid the difference. A search of some thousands finds printable ones.
    let factor: UInt64 = 0x9E37_79B9_7F4A_7C15
    var inverse: UInt64 = 1
    for _ in 0..<6 { inverse = inverse &* (2 &- factor &* inverse) }
    #expect(factor &* inverse == 1)
    var random = SeededRandom(of: "noKeylessCollisions")
    for _ in 0..<2_000 {
      let tail = (0..<8).map { _ in UInt8.random(in: 0x20...0x7E, using: &random) }
      for (longer, shorter) in [(16, 15), (16, 9), (12, 11), (9, 8)] as [(Int, Int)] {
        let first = random.next()
        let difference = UInt64(longer ^ shorter)
        for second in [inverse &* (difference ^ (first &* factor)), first ^ difference, first] {
          let a = Self.text(first, tail, longer)
          let b = Self.text(second, tail, shorter)
          #expect(identity(a, [], []) != identity(b, [], []))
        }
      }
    }
  }

  private static func text(_ word: UInt64, _ tail: [UInt8], _ count: Int) -> [UInt8] {
    let head = (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64($0 * 8)) }
    return Array(head[..<(count - 8)]) + tail
  }

  @Test("Other keys give other hashes, and the same keys give the same hashes")
  func keys() {
    let other = KeyedHash(seed: (1, 2, 3, 4))
    let text = bytes("lic_abc123")
    #expect(identity(text, text, text) == identity(text, text, text))
    #expect(identity(text, text, text) != identity(text, text, text, other))
    let none = KeyedHash(seed: (0, 0, 0, 0))
    #expect(identity(text, text, text, none) != .none)
    #expect(identity([], [], []) != .none)
  }

  @Test(
    "A record's fingerprint covers its key, value and timestamp, and is the same in every process")
  func fingerprints() {
    let store = ByteStore()
    func fingerprint(_ key: String?, _ value: String?, _ timestamp: Int64) -> Int64 {
      KeyedHash.fingerprint(
        of: LogRecordView(
          offset: 0, timestamp: timestamp, value: value.map { store.copy(bytes($0)) },
          key: key.map { store.copy(bytes($0)) }))
    }
    let all = [
      fingerprint("k", "v", 1), fingerprint("k", "v", 2), fingerprint("k", "w", 1),
      fingerprint("l", "v", 1), fingerprint("kv", "", 1), fingerprint("", "kv", 1),
      fingerprint("k", "v", -1), fingerprint("k", "v", .max),
    ]
    #expect(Set(all).count == all.count)
    #expect(fingerprint("k", "v", 1) == all[0])
    // The fingerprint is stored in consumer_offset. A change of the function changes the stored
    // format.
    #expect(fingerprint("lic_abc123", "{}", sampleTime) == 8_769_419_728_448_924_399)
  }
}
