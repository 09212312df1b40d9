/// Every variable that one of our programs reads. Services share files of variables, and people
/// run `meterctl` in the shell in which they run Terraform, so each program accepts all of these.
/// Any other variable is a mistake in its name. A service that ignored it would be worse than one
/// that does not start.
package enum KnownVariables {
  private static let prefix = "METER_"
  /// The prefix of the tests' own variables.
  private static let testPrefix = "METER_TEST_"
  private static let fileSuffix = "_FILE"

  /// What the Terraform provider reads, which is written in another language.
  private static let terraform: Set = ["METER_API_TOKEN", "METER_API_URL"]

  package static let all = Set(
    ProgramSettings.allCases.flatMap(\.declarations).map(\.name)
  ).union(terraform)

  /// Names the first variable, in alphabetical order, that begins with `METER_` and that no program
  /// reads. An empty variable counts as absent, as everywhere.
  package static func check(_ environment: [String: String]) throws(ConfigurationError) {
    for (name, value) in environment.sorted(by: { $0.key < $1.key })
    where name.hasPrefix(prefix) && !name.hasPrefix(testPrefix) && !value.isEmpty {
      if isKnown(name) { continue }
      let suggestion = suggestion(for: name).map { "; did you mean \($0)?" } ?? ""
      throw ConfigurationError("\(name) is not a setting of any program\(suggestion)")
    }
  }

  private static func isKnown(_ name: String) -> Bool {
    all.contains(name)
      || (name.hasSuffix(fileSuffix) && all.contains(String(name.dropLast(fileSuffix.count))))
  }

  /// The known name with the smallest number of changes, if it is close enough to be what was
  /// meant.
  private static func suggestion(for name: String) -> String? {
    let candidates = all.flatMap { $0.hasSuffix(fileSuffix) ? [$0] : [$0, $0 + fileSuffix] }
    let nearest = candidates.map { (distance: distance(name, $0), name: $0) }
      .min { ($0.distance, $0.name) < ($1.distance, $1.name) }
    guard let nearest, nearest.distance <= max(2, name.utf8.count / 5) else { return nil }
    return nearest.name
  }

  /// Levenshtein's distance. A name can be as long as the environment allows, so it is cut.
  private static func distance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.utf8.prefix(100)), Array(b.utf8.prefix(100)))
    var row = Array(0...b.count)
    for (i, byte) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for (j, other) in b.enumerated() {
        let changed = diagonal + (byte == other ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(changed, row[j] + 1, row[j + 1] + 1)
      }
    }
    return row[b.count]
  }
}
