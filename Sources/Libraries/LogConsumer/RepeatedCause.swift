import ServiceRuntime

/// Lets a cause that comes again and again be logged once, and then every half minute with a count.
package struct RepeatedCause {
  private static let quietMilliseconds = 30_000
  private static let maximumCauses = 32

  private var causes: [String: (count: Int, loggedAt: Int)] = [:]

  package init() {}

  /// - Returns: how often the cause has come since it was last logged, if it is to be logged now.
  package mutating func note(_ cause: String, at now: Int = Monotonic.milliseconds) -> Int? {
    guard let known = causes[cause] else {
      if causes.count >= Self.maximumCauses { causes.removeAll() }
      causes[cause] = (0, now)
      return 1
    }
    guard now - known.loggedAt >= Self.quietMilliseconds else {
      causes[cause] = (known.count + 1, known.loggedAt)
      return nil
    }
    causes[cause] = (0, now)
    return known.count + 1
  }

  /// Forgets the causes because they are gone. They are logged again when they return.
  package mutating func clear() { causes.removeAll() }
}
