/// One license in a `BurstTable`. Beside its id, 24 bytes hold either the first two minutes in
/// which it was seen, or its open minutes and the place of its detector.
///
/// An entry takes 52 bytes, aligned to 4. A license that was seen once costs these and its share of
/// the slots.
struct LicenseEntry: BitwiseCopyable, Sendable {
  /// An id of at most 24 bytes. A longer one has its first 20 bytes here, followed by the number of
  /// its first `KeyPool` chunk.
  var key = InlineArray<6, UInt32>(repeating: 0)
  /// Young: minute, calls (low, high), twice. Grown: block, newest minute, alarm, calls low,
  /// previous low, both their high 16 bits.
  private var words = InlineArray<6, UInt32>(repeating: 0)
  /// The length of the id in bytes.
  var length: UInt8 = 0
  private(set) var isGrownFlag: UInt8 = 0
  /// Young: the number of recorded minutes, 0 to 2.
  var records: UInt8 = 0
  /// Young: adds since the hand of the clock last passed, up to `mostReferences`.
  var references: UInt8 = 0

  static let inlineBytes = 24
  static let inlineBytesOfLong = 20
  static let mostReferences: UInt8 = 3

  init() {}

  var isGrown: Bool {
    @inline(__always) get { isGrownFlag != 0 }
    set { isGrownFlag = newValue ? 1 : 0 }
  }

  /// The first `KeyPool` chunk of a long id.
  var moreKey: UInt32 {
    get { key[5] }
    set { key[5] = newValue }
  }

  /// Whether every number is one that adding can produce.
  func isValid(blocks: Int) -> Bool {
    let times = -WeekClock.farthest...WeekClock.farthest
    guard isGrownFlag <= 1, records <= 2, references <= Self.mostReferences else { return false }
    if isGrown { return block < blocks && times.contains(open.minute) && open.alarm >= -1e30 }
    return (0..<Int(records)).allSatisfy {
      times.contains(recordMinute($0)) && (0...OpenMinute.mostCalls).contains(recordCalls($0))
    } && (records < 2 || recordMinute(0) != recordMinute(1))
  }

  // MARK: Young

  func recordMinute(_ index: Int) -> Int32 { Int32(bitPattern: words[3 * index]) }

  func recordCalls(_ index: Int) -> Int64 {
    Int64(words[3 * index + 1]) | Int64(words[3 * index + 2]) << 32
  }

  mutating func setRecord(_ index: Int, _ minute: Int32, _ calls: Int64) {
    words[3 * index] = UInt32(bitPattern: minute)
    words[3 * index + 1] = UInt32(truncatingIfNeeded: calls)
    words[3 * index + 2] = UInt32(truncatingIfNeeded: calls >> 32)
  }

  // MARK: Grown

  var block: Int {
    @inline(__always) get { Int(words[0]) }
    set { words[0] = UInt32(newValue) }
  }

  var open: OpenMinute {
    @inline(__always) get {
      OpenMinute(
        calls: Int64(words[3]) | Int64(words[5] & 0xFFFF) << 32,
        minute: Int32(bitPattern: words[1]), alarm: Float(bitPattern: words[2]))
    }
    @inline(__always) set {
      words[1] = UInt32(bitPattern: newValue.minute)
      words[2] = newValue.alarm.bitPattern
      words[3] = UInt32(truncatingIfNeeded: newValue.calls)
      words[5] = words[5] & 0xFFFF_0000 | UInt32(truncatingIfNeeded: newValue.calls >> 32) & 0xFFFF
    }
  }

  /// Calls of the minute before the newest one.
  var previous: Int64 {
    get { Int64(words[4]) | Int64(words[5] >> 16) << 32 }
    set {
      words[4] = UInt32(truncatingIfNeeded: newValue)
      words[5] = words[5] & 0xFFFF | UInt32(truncatingIfNeeded: newValue >> 32) << 16
    }
  }
}
