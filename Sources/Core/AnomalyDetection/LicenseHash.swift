import Metering

/// A keyed hash of license ids by folded 64×64→128-bit multiplications, as in wyhash and foldhash.
///
/// Customers choose license ids, so the key is random and never leaves the process: nobody outside
/// can choose ids that collide in one slot. Tables compare whole ids, and use the hash only to find
/// them.
struct LicenseHash: Sendable {
  private let k0: UInt64
  private let k1: UInt64
  private let k2: UInt64

  init(seed: UInt64) {
    var keys = SplitMix64(seed: seed)
    k0 = keys.next() | 1
    k1 = keys.next() | 1
    k2 = keys.next() | 1
  }

  @inline(__always)
  private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }

  @inline(__always)
  func hash(_ text: UnsafeRawBufferPointer) -> UInt64 {
    let n = text.count
    // The length is multiplied by a secret factor. With a known one, somebody could choose ids of
    // different lengths that have equal words.
    var a = k0 ^ (k2 &* (UInt64(truncatingIfNeeded: n) << 1 | 1))
    var w0: UInt64 = 0
    var w1: UInt64 = 0
    if let p = text.baseAddress {
      var i = 0
      while n - i > 16 {
        let x = p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
        let y = p.loadUnaligned(fromByteOffset: i + 8, as: UInt64.self)
        a = Self.fold(x ^ k1, y ^ a)
        i += 16
      }
      let rest = n - i
      if rest >= 8 {
        w0 = p.loadUnaligned(fromByteOffset: i, as: UInt64.self)
        w1 = p.loadUnaligned(fromByteOffset: n - 8, as: UInt64.self)
      } else {
        for k in i..<n { w1 = w1 << 8 | UInt64(p.load(fromByteOffset: k, as: UInt8.self)) }
      }
    }
    return Self.fold(Self.fold(w0 ^ k1, w1 ^ a) ^ k2, a ^ k0)
  }
}
