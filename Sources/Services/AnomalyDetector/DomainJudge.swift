import AnomalyDetection
import DomainNames
import Licensing
import ServiceRuntime
import UsageAggregation

/// Refused validations into findings about keys on foreign domains, and canceled ones that go on.
struct DomainJudge: TopicJudge {
  final class State: PartitionState {
    fileprivate var watch: DomainWatch
    fileprivate init(_ watch: DomainWatch) { self.watch = watch }

    func stored() -> [UInt8] { watch.state() }
    /// A guess that is never too low by much: it only paces checkpoints.
    var bytes: Int { watch.licenseCount * 4_096 }
    var licenseCount: Int { watch.licenseCount }
  }

  /// Longer names are cut: nothing in DNS has more, and the text goes into alerts.
  private static let domainBytes = 253

  let settings: DomainWatch.Settings
  let rules: PublicSuffixList

  func makeState() -> State {
    State(DomainWatch(settings: settings, seed: .random(in: .min ... .max)))
  }

  func restore(_ bytes: [UInt8]) -> State? {
    DomainWatch(settings: settings, state: bytes).map { State($0) }
  }

  func judge(_ batch: LogBatch, _ states: [Int32: State]) -> [Finding] {
    var findings: [Finding] = []
    for sighting in batch.sightings {
      guard let state = states[sighting.partition] else { continue }
      findings += judge(sighting, &state.watch).map { Finding($0, partition: sighting.partition) }
    }
    // A partition's time goes on with each of its records: digests are due though their license is quiet.
    for (partition, newest) in batch.newestTimestamps {
      guard let state = states[partition] else { continue }
      let time = min(newest, WallClock.milliseconds)
      findings += state.watch.advance(to: time).map { Finding($0, partition: partition) }
    }
    return findings
  }

  private func judge(
    _ sighting: UsageAggregation.Sighting, _ watch: inout DomainWatch
  ) -> [DomainFinding] {
    // A record from the future must not stop the partition's time.
    let seen = DomainWatch.Sighting(
      license: sighting.license, offset: sighting.offset,
      recordedAt: min(sighting.recordedAt, WallClock.milliseconds), time: sighting.time)
    switch sighting.suspicion {
    case .canceled: return watch.endedLicense(isCanceled: true, seen)
    case .suspended: return watch.endedLicense(isCanceled: false, seen)
    case .foreignDomain:
      guard !sighting.domain.isEmpty else { return [] }
      guard let name = DomainName(sighting.domain, rules: rules) else {
        // No name at all: told as it was asked for.
        let text = Self.shortened(sighting.domain)
        return watch.foreignDomain(text, registrable: text, seen)
      }
      // Developers' own machines are refused, but nobody is told.
      guard !name.isLocal else { return [] }
      let domain = name.description
      return watch.foreignDomain(
        domain, registrable: rules.registrableDomain(domain) ?? domain, seen)
    }
  }

  private static func shortened(_ text: String) -> String {
    guard text.utf8.count > domainBytes else { return text }
    var end = text.utf8.index(text.startIndex, offsetBy: domainBytes)
    while String.Index(end, within: text) == nil { end = text.utf8.index(before: end) }
    return String(text[..<end])
  }
}
