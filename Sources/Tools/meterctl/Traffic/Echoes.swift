/// Records that will be sent again, each in the slot of the event after which it is due.
struct Echoes {
  struct Echo {
    let key = EventBytes(capacity: 64)
    let value = EventBytes(capacity: 2_048)
  }

  /// More than the longest delay. A slot beyond that would belong to a later event.
  private static let slots = 4_096
  private var echoes: [Echo?] = Array(repeating: nil, count: slots)
  private var isSet = [Bool](repeating: false, count: slots)
  private var count = 0

  /// Takes the nearest free slot, beginning at the delay. If there is none in the window, the echo
  /// is dropped.
  mutating func add(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, at sequence: UInt64,
    after delay: Int
  ) {
    for shift in 0..<Self.slots {
      // 1 … slots − 1 after `sequence`. The slot of `sequence` itself is emptied right afterwards.
      let distance = 1 + (delay - 1 + shift) % (Self.slots - 1)
      let slot = Int((sequence + UInt64(distance)) % UInt64(Self.slots))
      if isSet[slot] { continue }
      let echo = echoes[slot] ?? Echo()
      echo.key.removeAll()
      echo.key.append(key)
      echo.value.removeAll()
      echo.value.append(value)
      echoes[slot] = echo
      isSet[slot] = true
      count += 1
      return
    }
  }

  @inline(__always)
  mutating func due(at sequence: UInt64) -> Echo? {
    let slot = Int(sequence % UInt64(Self.slots))
    guard isSet[slot] else { return nil }
    isSet[slot] = false
    count -= 1
    return echoes[slot]
  }

  /// Takes the remaining echoes at the end, in any order.
  mutating func takeAny() -> Echo? {
    guard count > 0, let slot = isSet.firstIndex(of: true) else { return nil }
    isSet[slot] = false
    count -= 1
    return echoes[slot]
  }
}
