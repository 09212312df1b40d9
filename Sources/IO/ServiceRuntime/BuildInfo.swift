/// The version of this build, for `--version` of every program and the metric `meter_build_info`.
package enum BuildInfo {
  /// The version of the public contract, as CHANGELOG.md describes it. Before a release it is that
  /// of the next one.
  package static let version = "1.0.0"

  /// The output of `program --version`.
  package static func line(_ program: String) -> String { "\(program) \(version)" }

  /// Registers `meter_build_info`, which is always 1. The version is its label.
  package static func register(on registry: MetricsRegistry) {
    registry.gauge(
      "meter_build_info", help: "Always 1, with the program's version as a label.",
      labels: [("version", version)]
    ).set(1)
  }
}
