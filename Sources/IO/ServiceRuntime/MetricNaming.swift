/// The naming rules by which `promtool check metrics` judges a family (client_golang's promlint).
///
/// They are checked when a metric is registered. Programmers write the names, and a bad one should
/// fail the first test that makes it and not somebody's dashboard.
enum MetricNaming {
  private static let types = ["counter", "gauge", "histogram", "summary"]
  private static let abbreviations: Set<String> = [
    "s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d",
  ]
  private static let otherUnits: Set<String> = [
    "minutes", "hours", "days", "weeks", "milliseconds", "microseconds", "nanoseconds",
    "kilobytes", "megabytes", "gigabytes", "terabytes", "kibibytes", "mebibytes", "gibibytes",
    "bits",
  ]

  /// What is wrong with the family; nil if nothing is.
  static func problem(name: String, help: String, kind: MetricKind) -> String? {
    guard isSnakeCase(name) else { return "the name is not snake_case" }
    guard !help.isEmpty else { return "there is no help text" }
    if (kind == .counter) != name.hasSuffix("_total") {
      return "counters end with _total, and nothing else does"
    }
    for suffix in ["_bucket", "_count", "_sum"] where name.hasSuffix(suffix) {
      return "\(suffix) belongs to the samples of a histogram"
    }
    let words = name.split(separator: "_").map(String.init)
    // The first word is the namespace. promlint only looks after an underscore.
    for word in words.dropFirst() {
      if types.contains(word) { return "the name says the metric's type" }
      if abbreviations.contains(word) { return "the unit is abbreviated" }
    }
    for word in words where otherUnits.contains(word) {
      return "\(word) is not a base unit: use seconds or bytes"
    }
    return nil
  }

  /// What is wrong with a label's name; nil if nothing is.
  static func problem(label: String) -> String? {
    guard isSnakeCase(label), !label.hasPrefix("__") else { return "the name is not snake_case" }
    // The samples of histograms and summaries have these labels.
    return label == "le" || label == "quantile" ? "the name is reserved" : nil
  }

  private static func isSnakeCase(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
    return name.utf8.allSatisfy {
      (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "_")
    }
  }
}

/// The TYPE of a family in the exposition format.
enum MetricKind: String, Sendable {
  case counter, gauge, histogram
}
