/// A dictionary with a maximum size. When it is full, a new entry replaces one that was not asked
/// for lately (CLOCK).
struct BoundedCache<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private struct Slot {
    var key: Key
    var value: Value
    var wasUsed: Bool
  }

  let capacity: Int
  private var index: [Key: Int] = [:]
  private var slots: [Slot] = []
  private var hand = 0

  init(capacity: Int) { self.capacity = capacity }

  var keys: [Key] { slots.map(\.key) }

  mutating func value(_ key: Key) -> Value? {
    guard let i = index[key] else { return nil }
    slots[i].wasUsed = true
    return slots[i].value
  }

  mutating func set(_ key: Key, _ value: Value) {
    if let i = index[key] {
      slots[i].value = value
      return
    }
    if slots.count < capacity {
      index[key] = slots.count
      slots.append(Slot(key: key, value: value, wasUsed: false))
      return
    }
    while slots[hand].wasUsed {
      slots[hand].wasUsed = false
      hand = (hand + 1) % slots.count
    }
    index[slots[hand].key] = nil
    index[key] = hand
    slots[hand] = Slot(key: key, value: value, wasUsed: false)
    hand = (hand + 1) % slots.count
  }

  func contains(_ key: Key) -> Bool { index[key] != nil }

  mutating func remove(_ key: Key) {
    guard let i = index.removeValue(forKey: key) else { return }
    let last = slots.removeLast()
    if i < slots.count {
      slots[i] = last
      index[last.key] = i
    }
    if hand >= slots.count { hand = 0 }
  }

  mutating func removeAll() {
    index = [:]
    slots = []
    hand = 0
  }
}
