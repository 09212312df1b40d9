import AnomalyDetection
import JSONText
import Licensing
import Metering
import PostgresStore

/// Suspicious activity, and the place in the log where it can be seen.
struct Finding: Sendable {
  enum Kind: Sendable {
    case burst(Burst)
    case domains(DomainFinding.Kind)
  }

  var kind: Kind
  var license: String
  var partition: Int32
  /// The epoch of the partition's log. The partition's owner sets it.
  var epoch: Int32 = 0
  var firstOffset: Int64
  var lastOffset: Int64
  /// In milliseconds since 1970.
  var occurredAt: Int64
  var recordedAt: Int64
  var dedupeKey: String
  /// The trace of the event that completed the finding.
  var trace: TraceContext?

  init(
    _ burst: Burst, license: String, group: (partition: Int32, first: Int64, last: Int64),
    recordedAt: Int64, trace: TraceContext?
  ) {
    kind = .burst(burst)
    self.license = license
    partition = group.partition
    firstOffset = group.first
    lastOffset = group.last
    occurredAt = Int64(burst.minute) * 60_000
    self.recordedAt = recordedAt
    dedupeKey = "license.suspicious_activity/burst/\(license)/\(burst.minute)"
    self.trace = trace
  }

  init(_ finding: DomainFinding, partition: Int32, trace: TraceContext? = nil) {
    kind = .domains(finding.kind)
    license = finding.license
    self.partition = partition
    firstOffset = finding.firstOffset
    lastOffset = finding.lastOffset
    occurredAt = finding.occurredAt
    recordedAt = finding.recordedAt
    dedupeKey = finding.dedupeKey
    self.trace = trace
  }

  var keyBytes: [UInt8] { Array(dedupeKey.utf8) }

  /// The order in which findings are raised if the budget does not suffice for all. The lowest
  /// comes first.
  var rank: Int {
    switch kind {
    case .domains(.mismatchDigest): 0
    case .domains(.domainSpread), .domains(.slowSpread), .domains(.canceledUse), .burst: 1
    case .domains(.domainMismatch): 2
    }
  }

  // MARK: As an alert

  /// - Parameter bound: the license's domains. It is empty if nobody registered the license, or if
  ///   domains do not matter.
  /// - Returns: nil if the license's own domains explain the finding.
  func described(
    by bound: [String], allowance: Int, rules: some DomainNameRules
  ) -> FindingDescription? {
    var json = JSONWriter(reserving: 512)
    json.beginObject()
    switch kind {
    case .burst(let burst): describe(burst, &json)
    case .domains(.domainMismatch(let domain, let count, let firstSeen)):
      mismatch(domain, count, firstSeen, bound, rules, &json)
    case .domains(.mismatchDigest(let count, let distinct, let frequent, let firstSeen)):
      mismatch(frequent.first?.domain ?? "", count, firstSeen, bound, rules, &json)
      digest(distinct, frequent, &json)
    case .domains(.domainSpread(let distinct, let sample, let isExact)):
      let found = Spread(
        distinct: distinct, sample: sample, isExact: isExact, allowance: allowance,
        window: DomainWatch.hour)
      guard spread(found, bound, rules, &json) else { return nil }
    case .domains(.slowSpread(let distinct, let sample)):
      let found = Spread(
        distinct: distinct, sample: sample, isExact: true,
        allowance: allowance * DomainWatch.slowAllowances, window: DomainWatch.slowSpread)
      guard spread(found, bound, rules, &json) else { return nil }
    case .domains(.canceledUse(let isCanceled, let count, let firstSeen)):
      json.member("reason", "canceled_use")
      json.member("status", isCanceled ? "canceled" : "suspended")
      json.member("count", count)
      json.member("first_seen", UTCTime.text(firstSeen))
    }
    json.member("detector", detector)
    return FindingDescription(finding: self, data: json)
  }

  private var detector: String {
    switch kind {
    case .burst: "burst/\(BurstDetector.version)"
    case .domains: "domains/\(DomainWatch.version)"
    }
  }

  private func describe(_ burst: Burst, _ json: inout JSONWriter) {
    json.member("reason", "burst")
    json.member("meter", "api_calls")
    json.member("rate_per_minute", rounded: burst.ratePerMinute, 10)
    json.member("expected_per_minute", rounded: burst.expectedPerMinute, 100)
    json.member("score", rounded: burst.score, 10_000)
    json.member("window_seconds", Int64(burst.windowSeconds))
  }

  private func mismatch(
    _ domain: String, _ count: Int64, _ firstSeen: Int64, _ bound: [String],
    _ rules: some DomainNameRules, _ json: inout JSONWriter
  ) {
    json.member("reason", "domain_mismatch")
    json.member("requested_domain", domain)
    let closest = DomainName(domain, rules: rules).flatMap {
      BoundDomains(bound, rules: rules).closest(to: $0)
    }
    json.name("bound_domain")
    if let closest = closest ?? bound.first { json.text(closest) } else { json.null() }
    json.member("bound_domains", Array(bound.prefix(Self.boundDomains)))
    json.member("count", count)
    json.member("first_seen", UTCTime.text(firstSeen))
  }

  private static let boundDomains = 50

  private func digest(
    _ distinct: Int, _ frequent: [DomainFinding.Frequent], _ json: inout JSONWriter
  ) {
    json.member("distinct_domains", Int64(distinct))
    json.member("sample", frequent.map(\.domain))
    json.name("most_frequent")
    json.beginArray()
    for domain in frequent {
      json.beginObject()
      json.member("domain", domain.domain)
      json.member("count", domain.count)
      json.endObject()
    }
    json.endArray()
    json.member("window_seconds", DomainWatch.hour / 1_000)
  }

  private struct Spread {
    let distinct: Int
    let sample: [String]
    let isExact: Bool
    let allowance: Int
    /// In milliseconds.
    let window: Int64
  }

  /// Domains that share a registrable domain with the license are not foreign, even if they are not
  /// bound to it.
  private func spread(
    _ found: Spread, _ bound: [String], _ rules: some DomainNameRules, _ json: inout JSONWriter
  ) -> Bool {
    let own = Set(
      bound.compactMap {
        DomainName($0.hasPrefix("*.") ? String($0.dropFirst(2)) : $0, rules: rules)?
          .registrable(by: rules)
      })
    let foreign = found.sample.filter { !own.contains($0) }
    let count =
      found.isExact ? foreign.count : found.distinct - (found.sample.count - foreign.count)
    guard count > found.allowance else { return false }
    json.member("reason", "domain_spread")
    json.member("distinct_domains", Int64(count))
    json.member("is_estimate", !found.isExact)
    json.member("allowance", Int64(found.allowance))
    json.member("window_seconds", found.window / 1_000)
    json.member("sample", Array(foreign.prefix(10)))
    return true
  }
}

/// A finding with its `data`, except for the last member. The budget decides whether that is
/// needed.
struct FindingDescription {
  let finding: Finding
  fileprivate let data: JSONWriter

  /// The object that `suspicious_activity_raise` reads.
  ///
  /// - Parameter until: the end of the hour, if further alerts about this customer's licenses may
  ///   be suppressed until then.
  func json(topic: String, until: Int64?) -> [UInt8] {
    var data = self.data
    if let until { data.member("further_alerts_suppressed_until", UTCTime.text(until)) }
    data.endObject()
    var json = JSONWriter(reserving: 768)
    json.beginObject()
    json.member("license_id", finding.license)
    json.member("occurred_at", finding.occurredAt)
    json.member("dedupe_key", finding.dedupeKey)
    json.name("data")
    json.raw(data.bytes)
    json.name("evidence")
    json.beginObject()
    json.member("topic", topic)
    json.member("log_epoch", Int64(finding.epoch))
    json.member("partition", Int64(finding.partition))
    json.member("first_offset", finding.firstOffset)
    json.member("last_offset", finding.lastOffset)
    if let trace = finding.trace { json.member("traceparent", trace.traceparent) }
    json.endObject()
    json.endObject()
    return json.bytes
  }
}

extension JSONWriter {
  /// Writes a number with at most as many decimal places as `scale` has zeros.
  fileprivate mutating func member(_ name: String, rounded value: Double, _ scale: Double) {
    self.name(name)
    raw(value.isFinite ? "\((value * scale).rounded() / scale)" : "null")
  }
}
