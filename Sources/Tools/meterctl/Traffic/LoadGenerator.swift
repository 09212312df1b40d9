import Glibc
import Metering

/// Random numbers for generated traffic. The same seed gives the same numbers everywhere.
struct SeededNumbers {
  private var random: SplitMix64

  init(seed: UInt64) { random = SplitMix64(seed: seed) }

  @inline(__always)
  mutating func next() -> UInt64 { random.next() }

  /// 0 to `bound` − 1, by Lemire's multiplication. Its bias is below 2⁻⁴⁰ for the bounds used here.
  @inline(__always)
  mutating func below(_ bound: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// In [0, 1).
  @inline(__always)
  mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// Chooses ranks from 0, lower ones more often: rank k with a probability of about 1/(k+1)^skew. It
/// uses the inverse of the continuous distribution, which needs no table.
struct SkewedChoice {
  private let count: Int
  private let exponent: Double
  private let span: Double
  private let isHarmonic: Bool

  init(count: Int, skew: Double) {
    self.count = count
    exponent = 1 - skew
    isHarmonic = abs(exponent) < 1e-9
    span = isHarmonic ? log(Double(count) + 1) : pow(Double(count) + 1, 1 - skew) - 1
  }

  @inline(__always)
  func rank(_ unit: Double) -> Int {
    let x = isHarmonic ? exp(unit * span) : pow(unit * span + 1, 1 / exponent)
    return min(count - 1, max(0, Int(x) - 1))
  }
}

/// Writes the values of generated usage events. Everything except times depends only on the seed.
final class LoadGenerator {
  let event = EventBytes(capacity: 2_048)
  let key = EventBytes(capacity: 64)

  private var numbers: SeededNumbers
  private let licenses: SkewedChoice
  /// From `","source":` to `"subject":"`.
  private let source: [UInt8]
  /// From `","datacontenttype"` to `"sequence":`.
  private let producer: [UInt8]
  private var timeMilliseconds: Int64 = .min
  private var timeText = [UInt8](repeating: 0, count: UTCTime.length)

  private static let features: [StaticString] = [
    "analytics", "webhooks", "custom-domains", "exports", "sso", "audit-log",
  ]

  /// - Parameter producerName: letters, digits and `-._`, which the command checks.
  init(seed: UInt64, licenses: Int, skew: Double, producerName: String) {
    numbers = SeededNumbers(seed: seed)
    self.licenses = SkewedChoice(count: licenses, skew: skew)
    source = Array(
      """
      ","source":"/load/\(producerName)","type":"license.usage.recorded","subject":"
      """.utf8)
    producer = Array(
      """
      ","datacontenttype":"application/json","producer":"\(producerName)","sequence":
      """.utf8)
  }

  /// Makes `key` and `event` the event with this sequence.
  func make(sequence: UInt64, time: Int64) {
    let license = UInt64(licenses.rank(numbers.unit()))
    let random = numbers.next()
    key.removeAll()
    key.append("lic_")
    key.append(license, width: 8)
    if time != timeMilliseconds {
      timeMilliseconds = time
      timeText.withUnsafeMutableBufferPointer { UTCTime.write(time, to: $0.baseAddress!) }
    }
    event.removeAll()
    event.append("{\"specversion\":\"1.0\",\"id\":\"")
    // The form of a ULID: ten digits that grow, and sixteen random ones.
    event.append(base32: 0x18D_0000_0000 &+ sequence, digits: 10)
    event.append(base32: random, digits: 8)
    event.append(base32: numbers.next(), digits: 8)
    event.append(source)
    event.append(key.bytes)
    event.append("\",\"time\":\"")
    event.append(timeText)
    event.append(producer)
    event.append(sequence)
    event.append(",\"data\":{\"meter\":\"api_calls\",\"quantity\":")
    // One call in sixteen stands for several calls.
    event.append(random >> 60 == 0 ? 2 + (random >> 40) % 9 : 1)
    event.append(",\"domain\":\"app.customer")
    event.append(license)
    event.append(".example\",\"feature\":\"")
    event.append(Self.features[Int((random >> 44) % 6)])
    event.append("\"}}")
  }

  /// Whether something with a probability of `percent` happens now.
  func happens(_ percent: Double) -> Bool {
    percent > 0 && numbers.unit() * 100 < percent
  }

  func below(_ bound: Int) -> Int { numbers.below(bound) }
}
