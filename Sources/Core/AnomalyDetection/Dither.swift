/// Rounds up or down at random, in proportion to the fraction, so that changes smaller than a step
/// are kept on average.
///
/// The randomness is a hash of the minute and the value, so the same past gives the same state.
enum Dither {
  static func round(_ position: Float, _ minute: Int32, _ most: Int) -> Int {
    let inside = min(max(position, 0), Float(most))
    let whole = inside.rounded(.down)
    let bits = (inside.bitPattern ^ UInt32(bitPattern: minute) &* 0x9E37_79B1) &* 0x85EB_CA6B
    let mixed = (bits ^ (bits >> 15)) &* 0xC2B2_AE35
    let random = Float(mixed >> 8) * 0x1p-24
    return Int(whole) + (random < inside - whole ? 1 : 0)
  }
}
