/// Which build this is: `--version` of every program, and the metric `meter_build_info`.
package enum BuildInfo {
  /// The version of the contract that others use, as CHANGELOG.md describes it. It is that of the
  /// next release until there is one.
  package static let version = "1.0.0"

  /// What `program --version` prints.
  package static func line(_ program: String) -> String { "\(program) \(version)" }

  /// Registers `meter_build_info`, which is always 1; the version is its label.
  package static func register(on registry: MetricsRegistry) {
    registry.gauge(
      "meter_build_info", help: "The program's version, as a label; always 1.",
      labels: [("version", version)]
    ).set(1)
  }
}
