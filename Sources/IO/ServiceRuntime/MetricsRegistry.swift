import Synchronization

/// The process's metrics and their rendering as Prometheus text, version 0.0.4
/// (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format).
///
/// - The same name and labels, in any order, give the same object. Keep it, because a look-up takes
///   the lock and the object does not.
/// - A name that `promtool check metrics` would not accept, or a name used for two types, traps.
/// - The first help text of a name stays.
/// - A family holds at most 10,000 series. Further ones work but are not rendered, and are counted
///   in `metrics_series_dropped_total`, because a label that customers choose must not fill memory.
package final class MetricsRegistry: Sendable {
  /// Enough for two series for each partition of a large topic. A Prometheus server's own advice is
  /// 10 for a metric, with a handful of metrics far above that.
  static let maximumSeriesPerFamily = 10_000
  static let maximumScrapeHooks = 256

  private enum Series {
    case counter(Counter)
    case gauge(Gauge)
    case histogram(Histogram)
  }

  private struct Family {
    let kind: MetricKind
    let help: String
    /// Series by the rendered text of their labels, without braces.
    var series: [String: Series] = [:]
  }

  private struct State {
    var families: [String: Family] = [:]
    var hooks: [@Sendable () -> Void] = []
  }

  private let state = Mutex(State())
  private let droppedSeries = Counter()

  package init() {}

  /// Returns a counter. Its name ends with `_total`. Label values may be any text.
  package func counter(
    _ name: String, help: String, labels: [(String, String)] = []
  ) -> Counter {
    let made = series(name, help, labels, .counter) { .counter(Counter()) }
    guard case .counter(let counter) = made else { trapTypes(name) }
    return counter
  }

  /// Returns a gauge. It is rendered as 0 until it is set.
  package func gauge(
    _ name: String, help: String, labels: [(String, String)] = []
  ) -> Gauge {
    let made = series(name, help, labels, .gauge) { .gauge(Gauge()) }
    guard case .gauge(let gauge) = made else { trapTypes(name) }
    return gauge
  }

  /// Returns a histogram.
  /// - Parameter buckets: upper bounds in base units (seconds, bytes), finite and ascending, 1 to
  ///   100 of them, the same for every series of the name. `+Inf` is added.
  package func histogram(
    _ name: String, help: String, buckets: [Double], labels: [(String, String)] = []
  ) -> Histogram {
    precondition((1...100).contains(buckets.count), "\(name): 1 to 100 buckets")
    precondition(
      buckets.allSatisfy(\.isFinite) && zip(buckets, buckets.dropFirst()).allSatisfy(<),
      "\(name): buckets are finite and ascending")
    let made = series(name, help, labels, .histogram) { .histogram(Histogram(bounds: buckets)) }
    guard case .histogram(let histogram) = made else { trapTypes(name) }
    precondition(histogram.bounds == buckets, "\(name): every series has the same buckets")
    return histogram
  }

  /// Returns a counter whose total is kept elsewhere and copied at the scrape, such as CPU seconds.
  /// The values must not fall.
  package func copiedCounter(
    _ name: String, help: String, labels: [(String, String)] = []
  ) -> Gauge {
    let made = series(name, help, labels, .counter) { .gauge(Gauge()) }
    guard case .gauge(let total) = made else { trapTypes(name) }
    return total
  }

  /// Calls `update` at the start of every `render()`, on the thread that renders, in the order of
  /// registration. Scrapes may overlap. It must not block and must not call `render()`.
  package func onScrape(_ update: @escaping @Sendable () -> Void) {
    state.withLock {
      precondition($0.hooks.count < Self.maximumScrapeHooks, "too many scrape hooks")
      $0.hooks.append(update)
    }
  }

  /// Forgets a gauge, such as the lag of a partition that moved to another member. Otherwise its
  /// last value would be reported for ever. Anybody who still holds the object writes to nothing.
  package func removeGauge(_ name: String, labels: [(String, String)]) {
    let key = Self.labelText(labels)
    state.withLock {
      guard let family = $0.families[name], family.kind == .gauge else { return }
      $0.families[name]?.series[key] = nil
    }
  }

  /// All families by name, with their series sorted by label text. The lock is held only to copy
  /// the tables.
  ///
  /// - Complexity: O(n log n) in the number of series.
  package func render() -> String {
    for hook in state.withLock({ $0.hooks }) { hook() }
    var families = state.withLock { $0.families }
    if droppedSeries.current > 0 {
      families["metrics_series_dropped_total"] = Family(
        kind: .counter, help: "Look-ups of series beyond the limit of their family.",
        series: ["": .counter(droppedSeries)])
    }
    var output = ""
    for (name, family) in families.sorted(by: { $0.key < $1.key }) where !family.series.isEmpty {
      output.append("# HELP \(name) \(Self.escape(family.help, quotes: false))\n")
      output.append("# TYPE \(name) \(family.kind.rawValue)\n")
      for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
        switch series {
        case .counter(let counter):
          Self.sample(name, labels, String(counter.current), to: &output)
        case .gauge(let gauge):
          Self.sample(name, labels, Self.number(gauge.current), to: &output)
        case .histogram(let histogram):
          Self.samples(name, labels, histogram, to: &output)
        }
      }
    }
    return output
  }

  private func series(
    _ name: String, _ help: String, _ labels: [(String, String)], _ kind: MetricKind,
    make: () -> Series
  ) -> Series {
    let key = Self.labelText(labels)
    return state.withLock { state in
      if let family = state.families[name] {
        precondition(family.kind == kind, "\(name) is already a \(family.kind)")
        if let known = family.series[key] { return known }
        if family.series.count >= Self.maximumSeriesPerFamily {
          droppedSeries.increment()
          return make()
        }
      } else {
        let problem = MetricNaming.problem(name: name, help: help, kind: kind)
        precondition(problem == nil, "metric \(name): \(problem ?? "")")
        state.families[name] = Family(kind: kind, help: help)
      }
      let made = make()
      state.families[name]?.series[key] = made
      return made
    }
  }

  private func trapTypes(_ name: String) -> Never {
    preconditionFailure("\(name) is already a metric of another type")
  }
}

extension MetricsRegistry {
  /// `a="x",b="y"` sorted by name. This is also the identity of a series.
  private static func labelText(_ labels: [(String, String)]) -> String {
    let sorted = labels.sorted { $0.0 < $1.0 }
    for (index, label) in sorted.enumerated() {
      let problem = MetricNaming.problem(label: label.0)
      precondition(problem == nil, "label \(label.0): \(problem ?? "")")
      precondition(index == 0 || sorted[index - 1].0 != label.0, "label \(label.0) twice")
    }
    return sorted.map { "\($0.0)=\"\(escape($0.1, quotes: true))\"" }.joined(separator: ",")
  }

  private static func samples(
    _ name: String, _ labels: String, _ histogram: Histogram, to output: inout String
  ) {
    let (cumulative, sum) = histogram.snapshot()
    let prefix = labels.isEmpty ? "" : labels + ","
    for (index, count) in cumulative.enumerated() {
      let bound = index < histogram.bounds.count ? number(histogram.bounds[index]) : "+Inf"
      sample("\(name)_bucket", "\(prefix)le=\"\(bound)\"", String(count), to: &output)
    }
    sample("\(name)_sum", labels, number(sum), to: &output)
    sample("\(name)_count", labels, String(cumulative.last ?? 0), to: &output)
  }

  private static func sample(
    _ name: String, _ labels: String, _ value: String, to output: inout String
  ) {
    output.append(labels.isEmpty ? "\(name) \(value)\n" : "\(name){\(labels)} \(value)\n")
  }

  /// Written as Go's `ParseFloat` reads it, with whole numbers without a fraction.
  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    let text = value.description
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  /// Escapes backslashes and newlines everywhere, and quotes only in label values.
  private static func escape(_ text: String, quotes: Bool) -> String {
    var output = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": output.append("\\\\")
      case "\n": output.append("\\n")
      case "\"" where quotes: output.append("\\\"")
      default: output.unicodeScalars.append(scalar)
      }
    }
    return output
  }
}
