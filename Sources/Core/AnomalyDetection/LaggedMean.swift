/// What a rate was about an hour and a half ago: three exponential means, one after the other.
///
/// It forgets smoothly, and it does not see what began a quarter of an hour ago: a climb cannot
/// explain itself.
struct LaggedMean: BitwiseCopyable, Sendable {
  private var stages = InlineArray<3, Float>(repeating: 0)

  /// The time constant of each stage.
  private static let minutes: Float = 30

  var value: Float { stages[2] }

  var isValid: Bool {
    stages.indices.allSatisfy { stages[$0] >= 0 && stages[$0] <= 10 * RateBaseline.mostCalls }
  }

  /// - Parameters:
  ///   - rate: a minute, for `step` minutes.
  ///   - seen: minutes that were learnt before; early on each of them counts alike.
  mutating func add(_ rate: Float, step: Float, seen: UInt16) {
    let share = max(1 / (Float(seen) + 1), min(step / Self.minutes, 0.5))
    stages[2] += share * (stages[1] - stages[2])
    stages[1] += share * (stages[0] - stages[1])
    stages[0] += share * (rate - stages[0])
  }
}
