import Foundation

/// The service's configuration: the environment, captured once when the value is made.
///
/// - Any variable `NAME` may be given as `NAME_FILE` instead: the path of a file (at most 1 MiB of
///   UTF-8) that holds the value. One trailing newline is trimmed. Giving both is an error.
/// - An empty variable counts as absent, because Compose files pass `${NAME:-}` for an unset one.
///   An empty file is an error, because it is a secret that was not filled in.
/// - Every error names the variable and says what it must contain. It never shows the value or the
///   path.
package struct Settings: Sendable {
  private let environment: [String: String]

  package init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    self.environment = environment
  }

  /// Refuses a variable that looks like one of ours but is not: see `KnownVariables`.
  package func checkNames() throws(ConfigurationError) { try KnownVariables.check(environment) }

  /// The text as given, or `default`.
  package func string(
    _ name: String, default: String
  ) throws(ConfigurationError) -> String {
    try optionalString(name) ?? `default`
  }

  /// The text as given; nil if neither `name` nor its file is set.
  package func optionalString(_ name: String) throws(ConfigurationError) -> String? {
    let direct = present(name)
    let fileVariable = name + "_FILE"
    guard let path = present(fileVariable) else {
      if let direct { try refuseNUL(direct, name) }
      return direct
    }
    guard direct == nil else {
      throw ConfigurationError(
        "\(name) and \(fileVariable) are both set, but only one of them may be")
    }
    let value = try contents(of: path, named: fileVariable)
    try refuseNUL(value, fileVariable)
    return value
  }

  /// The text as given.
  /// - Throws: also if the variable is absent.
  package func required(_ name: String) throws(ConfigurationError) -> String {
    guard let value = try optionalString(name) else {
      throw ConfigurationError(
        "\(name) is required (or \(name)_FILE, the path of a file that contains it)")
    }
    return value
  }

  /// A decimal integer within `range`.
  package func integer(
    _ name: String, default: Int, in range: ClosedRange<Int>
  ) throws(ConfigurationError) -> Int {
    guard let text = try optionalString(name) else { return `default` }
    guard let value = Self.decimal(text), range.contains(value) else {
      throw ConfigurationError(
        "\(name) must be an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// `true` or `false`, nothing else: `1`, `yes` and `TRUE` mean different things elsewhere.
  package func boolean(_ name: String, default: Bool) throws(ConfigurationError) -> Bool {
    switch try optionalString(name) {
    case nil: return `default`
    case "true": return true
    case "false": return false
    default: throw ConfigurationError("\(name) must be true or false")
    }
  }

  /// A duration such as `250ms`, `10s`, `5m`, `2h` or `35d`. `default`, `range` and the result are
  /// in milliseconds. The unit is required, so that `30` is never misread.
  package func milliseconds(
    _ name: String, default: Int, in range: ClosedRange<Int>
  ) throws(ConfigurationError) -> Int {
    guard let text = try optionalString(name) else { return `default` }
    guard let value = Self.duration(text), range.contains(value) else {
      let lowest = Self.durationText(range.lowerBound)
      let highest = Self.durationText(range.upperBound)
      throw ConfigurationError(
        "\(name) must be a duration from \(lowest) to \(highest), such as 250ms, 10s, 5m, 2h or 1d"
      )
    }
    return value
  }

  /// `host:port`, `[::1]:9100` or `:9100`. Port 0 asks for a free one.
  package func address(
    _ name: String, default: String
  ) throws(ConfigurationError) -> BindAddress {
    guard let address = BindAddress(parsing: try string(name, default: `default`)) else {
      throw ConfigurationError(
        "\(name) must be host:port, such as 0.0.0.0:9100 or [::1]:9100")
    }
    return address
  }

  /// One of the cases of `T`, by raw value.
  package func choice<T: RawRepresentable & CaseIterable>(
    _ name: String, default: T
  ) throws(ConfigurationError) -> T where T.RawValue == String {
    guard let text = try optionalString(name) else { return `default` }
    guard let value = T(rawValue: text) else {
      let known = T.allCases.map(\.rawValue).joined(separator: ", ")
      throw ConfigurationError("\(name) must be one of \(known)")
    }
    return value
  }
}

extension Settings {
  /// Far larger than any key, token, URI or key set. A path such as `/dev/zero` must not fill
  /// memory.
  private static let maximumFileBytes = 1 << 20

  private static let durationUnits: [(suffix: String, milliseconds: Int)] = [
    // "ms" comes before "s" and "m", because the first suffix that fits is used.
    ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
  ]

  private func present(_ name: String) -> String? {
    guard let value = environment[name], !value.isEmpty else { return nil }
    return value
  }

  /// The C libraries behind most settings would silently cut the value at a NUL.
  private func refuseNUL(_ value: String, _ name: String) throws(ConfigurationError) {
    if value.utf8.contains(0) {
      throw ConfigurationError("\(name) must not contain a NUL byte")
    }
  }

  private func contents(
    of path: String, named fileVariable: String
  ) throws(ConfigurationError) -> String {
    var bytes: [UInt8]
    switch BoundedFile.read(path, maximumBytes: Self.maximumFileBytes) {
    case .success(let content): bytes = content
    case .failure(.tooLarge):
      throw ConfigurationError("\(fileVariable) names a file of more than 1 MiB")
    case .failure(.system(let code)):
      throw ConfigurationError(
        "\(fileVariable) names a file that cannot be read: \(BoundedFile.message(code))")
    }
    if bytes.last == UInt8(ascii: "\n") {
      bytes.removeLast()
      if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
    }
    guard !bytes.isEmpty else {
      throw ConfigurationError("\(fileVariable) names an empty file")
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationError("\(fileVariable) names a file that is not UTF-8 text")
    }
    return text
  }

  /// `Int(_:)` alone would also take `+5`.
  private static func decimal(_ text: String) -> Int? {
    text.hasPrefix("+") ? nil : Int(text)
  }

  private static func duration(_ text: String) -> Int? {
    guard let unit = durationUnits.first(where: { text.hasSuffix($0.suffix) }) else { return nil }
    let digits = text.dropLast(unit.suffix.count)
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let count = Int(digits)
    else { return nil }
    let (value, overflow) = count.multipliedReportingOverflow(by: unit.milliseconds)
    return overflow ? nil : value
  }

  /// The shortest text that `duration` reads back.
  static func durationText(_ milliseconds: Int) -> String {
    guard milliseconds != 0 else { return "0ms" }
    let unit = durationUnits.last { milliseconds % $0.milliseconds == 0 } ?? durationUnits[0]
    return "\(milliseconds / unit.milliseconds)\(unit.suffix)"
  }
}
