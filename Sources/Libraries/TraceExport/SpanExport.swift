import Foundation
package import Logging
package import ServiceLifecycle
package import ServiceRuntime
import SystemRandom
import Tracing

/// Sets up tracing as the settings ask.
package enum SpanExport {
  /// Makes the process record spans if `METER_OTLP_ENDPOINT` is set. It may be called at most once
  /// in a process.
  ///
  /// - Returns: the services that must run for that, before all services whose spans they send.
  /// - Throws: an error with one line that names the variable.
  package static func begin(
    _ settings: ServiceRuntime.Settings, service: String, metrics: MetricsRegistry, logger: Logger
  ) throws(ConfigurationError) -> [any Service] {
    guard let endpoint = try settings[DeclaredSettings.otlpEndpoint] else { return [] }
    let exporter = SpanExporter(
      settings: SpanExporter.Settings(
        endpoint: try address(endpoint),
        headers: try headers(try settings[DeclaredSettings.otlpHeaders])),
      resource: SpanRecord.Resource(
        service: service, version: BuildInfo.version, instance: SystemRandom.uuid()),
      metrics: metrics, logger: logger)
    InstrumentationSystem.bootstrap(OTLPTracer(exporter))
    return [exporter]
  }

  static func address(_ text: String) throws(ConfigurationError) -> String {
    guard let url = URL(string: text), ["http", "https"].contains(url.scheme),
      url.host?.isEmpty == false, url.query == nil, url.fragment == nil, url.user == nil
    else {
      throw ConfigurationError(
        "METER_OTLP_ENDPOINT must be an http or https URL such as http://localhost:4318")
    }
    return text.hasSuffix("/") ? String(text.dropLast()) : text
  }

  /// Reads `name=value,…`. Values with commas are percent-encoded.
  static func headers(
    _ text: String?
  ) throws(ConfigurationError) -> [(name: String, value: String)] {
    var headers: [(name: String, value: String)] = []
    for part in (text ?? "").split(separator: ",") {
      let pair = part.split(separator: "=", maxSplits: 1).map {
        $0.trimmingCharacters(in: .whitespaces)
      }
      guard pair.count == 2, let value = pair[1].removingPercentEncoding,
        !pair[0].isEmpty, pair[0].utf8.allSatisfy(isToken),
        value.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
      else { throw ConfigurationError("METER_OTLP_HEADERS must be name=value,name=value") }
      headers.append((pair[0], value))
    }
    return headers
  }

  private static func isToken(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
      || [UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: ".")].contains(byte)
  }
}
