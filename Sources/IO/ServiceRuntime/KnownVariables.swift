/// Every variable that one of our programs reads. Services share files of variables, so each of
/// them takes all of these; a variable beside them is a mistake in its name, and a service that
/// ran without what somebody meant to set would be worse than one that does not start.
package enum KnownVariables {
  private static let prefix = "METER_"
  /// The tests' own.
  private static let testPrefix = "METER_TEST_"
  private static let fileSuffix = "_FILE"

  package static let all = ofPrograms.union(ofTheContract)

  /// The contract gives these to `metering-api`, whose files of variables the others may share.
  private static let ofTheContract: Set<String> = [
    "METER_BASE_PATH", "METER_CLOSE_GRACE", "METER_PORTAL_FRAME_ANCESTORS", "METER_PUBLIC_URL",
    "METER_STRIPE_API_BASE", "METER_STRIPE_API_KEY", "METER_STRIPE_METERS",
  ]

  private static let ofPrograms: Set<String> = [
    "METER_ADDRESS_RATE_LIMIT", "METER_ADDRESS_RATE_LIMIT_BURST", "METER_ADMIN_BIND",
    "METER_ALERT_MAX_AGE", "METER_ANONYMOUS_RATE_LIMIT",
    "METER_ANONYMOUS_RATE_LIMIT_BURST", "METER_CATCH_UP_FLUSH_INTERVAL",
    "METER_CHECKPOINT_INTERVAL", "METER_CLIENT_IP", "METER_DATABASE_PATIENCE", "METER_DATABASE_URL",
    "METER_DEDUPE_WINDOW", "METER_DETECTOR_LICENSES", "METER_DOMAIN_ALLOWANCE",
    "METER_ENCRYPTION_KEY", "METER_EXPIRY_SWEEP_INTERVAL", "METER_FLUSH_INTERVAL",
    "METER_HTTP_BIND", "METER_INSTANCE", "METER_KAFKA_BROKERS", "METER_KAFKA_CONFIG_FILE",
    "METER_LICENSE_CACHE", "METER_LOG_FORMAT", "METER_LOG_LEVEL", "METER_MAX_BATCH_ENTRIES",
    "METER_MAX_CONNECTIONS_PER_ADDRESS",
    "METER_MAX_DELAYED_REQUESTS", "METER_MAX_EVENT_AGE", "METER_MAX_PENDING_ROWS",
    "METER_MAX_QUANTITY", "METER_MERGE_INTERVAL", "METER_RATE_LIMIT", "METER_RATE_LIMIT_BURST",
    "METER_REQUEST_TIMEOUT", "METER_REQUIRE_API_KEY", "METER_SIGNING_KEY", "METER_SPOOL_DIR",
    "METER_SPOOL_MAX_BYTES", "METER_SPOOL_SYNC", "METER_TLS_CERT", "METER_TLS_KEY",
    "METER_TRUSTED_PROXIES", "METER_UNKNOWN_RATE_LIMIT", "METER_UNKNOWN_RATE_LIMIT_BURST",
    "METER_WEBHOOK_ALLOW_CIDRS", "METER_WEBHOOK_ALLOW_HTTP",
    "METER_WEBHOOK_CA_FILE", "METER_WEBHOOK_CONCURRENCY", "METER_WEBHOOK_ENDPOINT_CONCURRENCY",
    "METER_WEBHOOK_LEASE", "METER_WEBHOOK_POLL_INTERVAL", "METER_WEBHOOK_RETENTION",
    "METER_WEBHOOK_TIMEOUT",
  ]

  /// Names the first variable, in the order of the alphabet, that begins with `METER_` and that
  /// nobody reads. One that is empty counts as absent, as everywhere.
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

  /// The known name that is fewest changes away, if that is near enough to be what was meant.
  private static func suggestion(for name: String) -> String? {
    let candidates = all.flatMap { $0.hasSuffix(fileSuffix) ? [$0] : [$0, $0 + fileSuffix] }
    let nearest = candidates.map { (distance: distance(name, $0), name: $0) }
      .min { ($0.distance, $0.name) < ($1.distance, $1.name) }
    guard let nearest, nearest.distance <= max(2, name.utf8.count / 5) else { return nil }
    return nearest.name
  }

  /// Levenshtein's distance. A name is at most as long as the environment allows, so it is cut.
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
