import AnomalyDetection
import DomainNames
import Licensing
import ServiceRuntime
import SystemRandom
import UsageAggregation

/// Finds keys on foreign domains, and licenses that are used after they were canceled or suspended,
/// in refused validations.
struct DomainFinder: TopicFinder {
  final class State: FinderState {
    fileprivate var watch: DomainWatch
    fileprivate init(_ watch: DomainWatch) { self.watch = watch }

    func stored() -> [UInt8] { watch.state() }
    /// An estimate that is never much too low. It only paces checkpoints.
    var bytes: Int { watch.licenseCount * 4_096 }
    var licenseCount: Int { watch.licenseCount }
  }

  /// Stands for every text that is not a host name. Alerts are signed and sent to customers, so
  /// nobody else may choose their words.
  static let notAHostName = "(not a host name)"

  let settings: DomainWatch.Settings
  let rules: PublicSuffixList

  func makeState() -> State {
    State(DomainWatch(settings: settings, seed: SystemRandom.word()))
  }

  func restore(_ bytes: [UInt8]) -> State? {
    DomainWatch(settings: settings, state: bytes).map { State($0) }
  }

  func find(in batch: LogBatch, _ states: [Int32: State]) -> [Finding] {
    var findings: [Finding] = []
    for sighting in batch.sightings {
      guard let state = states[sighting.partition] else { continue }
      findings += find(in: sighting, &state.watch).map { found in
        // Several records may have caused a finding that only the passing of time made due, or an
        // earlier one. No single trace belongs to it.
        Finding(
          found, partition: sighting.partition,
          trace: found.lastOffset == sighting.offset ? sighting.trace : nil)
      }
    }
    // The partition's time advances with each of its records. A digest may be due although its
    // license is quiet.
    for (partition, newest) in batch.newestTimestamps {
      guard let state = states[partition] else { continue }
      let time = min(newest, WallClock.milliseconds)
      findings += state.watch.advance(to: time).map { Finding($0, partition: partition) }
    }
    return findings
  }

  private func find(
    in sighting: UsageAggregation.Sighting, _ watch: inout DomainWatch
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
        return watch.foreignDomain(
          Self.notAHostName, registrable: Self.notAHostName, seen)
      }
      // Developers' own machines are refused, but raise no alert.
      guard !name.isLocal else { return [] }
      return watch.foreignDomain(
        name.description, registrable: name.registrable(by: rules), seen)
    }
  }
}
