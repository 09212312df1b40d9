/// The rate of about an hour and a half ago, from three exponential means in a row.
///
/// It forgets smoothly, and does not see what began a quarter of an hour ago. A climb therefore
/// cannot explain itself.
struct LaggedMean: BitwiseCopyable, Sendable {
  private var stages = InlineArray<3, Float>(repeating: 0)

  /// The time constant of each stage.
  private static let minutes: Float = 30

  var value: Float { stages[2] }

  var isValid: Bool {
    stages.indices.allSatisfy { stages[$0] >= 0 && stages[$0] <= 10 * RateBaseline.mostCalls }
  }

  /// - Parameters:
  ///   - rate: calls per minute, for `step` minutes.
  ///   - seen: the number of minutes that were learnt before. Early minutes all count alike.
  mutating func add(_ rate: Float, step: Float, seen: UInt16) {
    let share = max(1 / (Float(seen) + 1), min(step / Self.minutes, 0.5))
    stages[2] += share * (stages[1] - stages[2])
    stages[1] += share * (stages[0] - stages[1])
    stages[0] += share * (rate - stages[0])
  }
}
