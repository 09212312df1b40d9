/// Turns the state into bytes for the database: a version, then the numbers in little-endian.
extension UsageWatch {
  package func state() -> [UInt8] {
    var out = StateWriter()
    out.put(Self.version)
    out.put(Int64(series.rows))
    out.put(series.last)
    for number in [
      series.step, series.mean, series.errors.variance, series.errors.meanSize, series.rhythmLevel,
      series.rhythmErrors.variance, series.rhythmErrors.meanSize, silence,
    ] {
      out.put(number.bitPattern)
    }
    out.put(Int64(series.rhythmRows))
    out.put(UInt8((series.areCounts ? 1 : 0) + (series.usesRhythm ? 2 : 0)))
    out.put(series.side)
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

  /// Reads a state that `state()` wrote, of this version or the one before; nil for anything else.
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
    let version = try reader.integer(UInt8.self)
    guard version == Self.version || version == 1 else { return false }
    series.rows = Int(try reader.integer(Int64.self))
    series.last = try reader.integer()
    series.step = try Self.number(&reader)
    series.mean = try Self.number(&reader)
    series.errors = try Self.errors(&reader, version)
    series.rhythmLevel = try Self.number(&reader)
    series.rhythmErrors = try Self.errors(&reader, version)
    silence = try Self.number(&reader)
    series.rhythmRows = version == 1 ? series.rows : Int(try reader.integer(Int64.self))
    let flags = version == 1 ? 1 : try reader.integer(UInt8.self)
    series.areCounts = flags & 1 == 1
    series.usesRhythm = version == 1 ? series.prefersRhythm : flags & 2 == 2
    series.side = try reader.integer()
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
    // Version 1 stored no side, only a 1 if an anomaly was in progress.
    if version == 1, direction == .low, series.isOpen { series.side = -1 }
    return code <= 3
  }

  /// Version 1 stored no mean size, so the errors are assumed to be normal.
  private static func errors(
    _ reader: inout StateReader, _ version: UInt8
  ) throws(StateReader.Malformed) -> ErrorSize {
    let variance = try number(&reader)
    let meanSize =
      version == 1 ? variance.squareRoot() / ErrorSize.normal : try number(&reader)
    return ErrorSize(variance: variance, meanSize: meanSize)
  }

  private static func number(_ reader: inout StateReader) throws(StateReader.Malformed) -> Double {
    Double(bitPattern: try reader.integer(UInt64.self))
  }

  /// Whether every number is one that observing can produce.
  private var isValid: Bool {
    let far: Int64 = 1 << 40
    return series.rows >= 0 && series.rows < far && silentRows >= 0 && silentRows < far
      && (1...60).contains(series.step) && abs(series.last) < far && abs(first) < far
      && abs(since) < far && series.quietRows < 250 && backRows < 250
      && [series.mean, series.rhythmLevel, silence].allSatisfy { abs($0) <= 1e31 }
      && (-1...1).contains(series.side) && series.rhythmRows >= 0 && series.rhythmRows < far
      && [series.errors, series.rhythmErrors].allSatisfy {
        $0.variance >= 0 && $0.variance <= 1e64 && $0.meanSize >= 0 && $0.meanSize <= 1e32
      }
      && series.rhythm.days.indices.allSatisfy { Self.isKnown(series.rhythm.days[$0]) }
      && series.rhythm.weeks.indices.allSatisfy { Self.isKnown(series.rhythm.weeks[$0]) }
  }

  private static func isKnown(_ value: Float) -> Bool { value.isNaN || abs(value) <= 1e32 }
}
