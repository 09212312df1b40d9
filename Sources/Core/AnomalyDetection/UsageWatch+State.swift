/// The state as bytes, for the database: a version, then the numbers, little-endian.
extension UsageWatch {
  package func state() -> [UInt8] {
    var out = StateWriter()
    out.put(Self.version)
    out.put(Int64(series.rows))
    out.put(series.last)
    for number in [
      series.step, series.mean, series.variance, series.rhythmLevel, series.rhythmVariance, silence,
    ] {
      out.put(number.bitPattern)
    }
    out.put(UInt8(series.isOpen ? 1 : 0))
    out.put(series.quietRows)
    for hour in 0..<24 { out.put(series.rhythm.days[hour].bitPattern) }
    for hour in 0..<168 { out.put(series.rhythm.weeks[hour].bitPattern) }
    out.put(first)
    out.put(direction?.rawValue ?? 0)
    out.put(since)
    out.put(Int64(silentRows))
    out.put(backRows)
    for word in 0..<3 { out.put(active[word]) }
    return out.bytes
  }

  /// The state that `state()` wrote; nil for anything else, another version's included.
  package init?(state: [UInt8]) {
    self.init()
    var reader = StateReader(state)
    do {
      guard try read(&reader), reader.isAtEnd, isValid else { return nil }
    } catch {
      return nil
    }
  }

  private mutating func read(_ reader: inout StateReader) throws(StateReader.Malformed) -> Bool {
    guard try reader.integer(UInt8.self) == Self.version else { return false }
    series.rows = Int(try reader.integer(Int64.self))
    series.last = try reader.integer()
    series.step = try Self.number(&reader)
    series.mean = try Self.number(&reader)
    series.variance = try Self.number(&reader)
    series.rhythmLevel = try Self.number(&reader)
    series.rhythmVariance = try Self.number(&reader)
    silence = try Self.number(&reader)
    series.isOpen = try reader.integer(UInt8.self) == 1
    series.quietRows = try reader.integer()
    for hour in 0..<24 { series.rhythm.days[hour] = Float(bitPattern: try reader.integer()) }
    for hour in 0..<168 { series.rhythm.weeks[hour] = Float(bitPattern: try reader.integer()) }
    first = try reader.integer()
    let code = try reader.integer(UInt8.self)
    direction = UsageAnomaly.Direction(rawValue: code)
    since = try reader.integer()
    silentRows = Int(try reader.integer(Int64.self))
    backRows = try reader.integer()
    for word in 0..<3 { active[word] = try reader.integer() }
    return code <= 3
  }

  private static func number(_ reader: inout StateReader) throws(StateReader.Malformed) -> Double {
    Double(bitPattern: try reader.integer(UInt64.self))
  }

  /// Whether every number is one that observing can lead to.
  private var isValid: Bool {
    let far: Int64 = 1 << 40
    return series.rows >= 0 && series.rows < far && silentRows >= 0 && silentRows < far
      && (1...60).contains(series.step) && abs(series.last) < far && abs(first) < far
      && abs(since) < far && series.quietRows < 250 && backRows < 250
      && [series.mean, series.rhythmLevel, silence].allSatisfy { abs($0) <= 1e31 }
      && [series.variance, series.rhythmVariance].allSatisfy { $0 >= 0 && $0 <= 1e64 }
      && series.rhythm.days.indices.allSatisfy { Self.isKnown(series.rhythm.days[$0]) }
      && series.rhythm.weeks.indices.allSatisfy { Self.isKnown(series.rhythm.weeks[$0]) }
  }

  private static func isKnown(_ value: Float) -> Bool { value.isNaN || abs(value) <= 1e32 }
}
