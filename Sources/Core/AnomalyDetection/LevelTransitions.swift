import RealModule

/// How unusual the way from one value to the next is, whatever the values are: eight levels of the
/// value, and how often each followed each.
///
/// The levels are cut at the octiles of the last fifty rows or so, followed by stochastic
/// approximation (Robbins and Monro 1951). The surprise of a step is −ln p, where
/// p = (count + c) / (row + 8 c) is the add-c estimate of a Markov chain of first order (Jurafsky
/// and Martin, Speech and Language Processing, ch. 3). Its exponential mean is what is told: one
/// odd step is noise, a few in a row are another rhythm. To judge values by the context they come
/// in is the idea of CAD-OSE (Smirnov 2016, https://github.com/smirmik/CAD); here 64 counts are
/// all the memory.
struct LevelTransitions: Sendable {
  private static let levels = 8
  /// c: how often each transition counts as seen before any is.
  private static let prior = 0.2
  /// The share of the past that a row replaces in the cuts.
  private static let cutRate = 0.02
  // Spans of exponential means, in rows: 300 and 4.
  private static let spreadRate = 2.0 / 301
  private static let surpriseRate = 2.0 / 5

  private var cuts: InlineArray<7, Float>
  /// Row by row: what came before, and what then. A row is halved when full.
  private var counts: InlineArray<64, UInt8> = .init(repeating: 0)
  private var level: UInt8 = 0
  private var spread: Float = 0
  private var meanSurprise: Float = 0

  init(first value: Double) { cuts = .init(repeating: Float(value)) }

  /// The mean surprise with this value, the `row`-th, which is learned.
  mutating func surprise(_ value: Double, _ row: Double) -> Double {
    var next = 0
    while next < Self.levels - 1, value > Double(cuts[next]) { next += 1 }
    moveCuts(value, row)
    let from = Int(level) * Self.levels
    var total = 0
    for cell in from..<from + Self.levels { total += Int(counts[cell]) }
    let chance =
      (Double(counts[from + next]) + Self.prior)
      / (Double(total) + Double(Self.levels) * Self.prior)
    if counts[from + next] == .max {
      for cell in from..<from + Self.levels { counts[cell] /= 2 }
    }
    counts[from + next] += 1
    level = UInt8(next)
    let mean = Double(meanSurprise)
    meanSurprise = Float(mean + max(Self.surpriseRate, 1 / row) * (-Double.log(chance) - mean))
    return Double(meanSurprise)
  }

  private mutating func moveCuts(_ value: Double, _ row: Double) {
    let off = abs(value - Double(cuts[3]))
    spread = Float(Double(spread) + max(Self.spreadRate, 1 / row) * (off - Double(spread)))
    let step = max(Self.cutRate, 1 / row) * Double(spread)
    for i in 0..<Self.levels - 1 {
      let cut = Double(cuts[i])
      let share = Double(i + 1) / Double(Self.levels)
      cuts[i] = Float(cut + step * (value > cut ? share : share - 1))
      if i > 0, cuts[i] < cuts[i - 1] { cuts[i] = cuts[i - 1] }
    }
  }
}
