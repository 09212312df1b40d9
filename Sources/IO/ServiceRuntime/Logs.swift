import Logging
import Synchronization

/// Sets up swift-log for the process: single lines on standard error.
package enum Logs {
  private static let isBootstrapped = Mutex(false)

  /// Reads `METER_LOG_LEVEL` (`trace` … `critical`, default `info`) and `METER_LOG_FORMAT` (`text`,
  /// the default, or `json`). Every `Logger` made from now on writes accordingly.
  ///
  /// `ServiceMain` calls it before a service's own code. Only the first call of the process takes
  /// effect. Later calls still check the settings; swift-log itself would trap.
  package static func bootstrap(
    service: String, settings: Settings
  ) throws(ConfigurationError) {
    let level = try settings[DeclaredSettings.logLevel]
    let format = try settings[DeclaredSettings.logFormat]
    let isFirst = isBootstrapped.withLock { done in
      defer { done = true }
      return !done
    }
    guard isFirst else { return }
    LoggingSystem.bootstrap(
      { label, provider in
        LineLogHandler(
          service: service, label: label, format: format, logLevel: level,
          metadataProvider: provider, write: StandardError.write)
      }, metadataProvider: nil)
  }
}

/// The format of log lines.
enum LogFormat: String, CaseIterable, Sendable {
  /// `TIME LEVEL SERVICE message key=value …`
  case text
  /// One JSON object: `time`, `level`, `service`, `logger`, `message` and the metadata as fields.
  case json
}
