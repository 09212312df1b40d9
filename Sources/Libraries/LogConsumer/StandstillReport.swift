import Logging
import ServiceRuntime
import UsageAggregation

/// Reports to health and log which partitions stand still: each cause once, with its partitions.
struct StandstillReport {
  private let health: HealthState
  private let settings: ConsumerSettings
  private let logger: Logger
  private var last = StandstillSummary([])
  /// The problems that health knows about, by component.
  private var told: [String: String] = [:]

  init(health: HealthState, settings: ConsumerSettings, logger: Logger) {
    self.health = health
    self.settings = settings
    self.logger = logger
  }

  mutating func tell(_ standstills: [(partition: Int32, standstill: Standstill)]) {
    let summary = StandstillSummary(standstills)
    guard summary != last else { return }
    report(summary)
    log(summary)
    last = summary
  }

  private mutating func report(_ summary: StandstillSummary) {
    var now: [String: String] = [:]
    for (cause, concerned) in summary.causes {
      let name = settings.healthName(StandstillSummary.name(concerned.partitions))
      now[name] = summary.sentence(cause)
    }
    // New problems are reported first, so that there is no moment without a problem.
    for (name, sentence) in now where told[name] != sentence {
      health.report(name, problem: sentence, logs: false)
    }
    for name in told.keys where now[name] == nil { health.report(name, problem: nil, logs: false) }
    told = now
  }

  private func log(_ summary: StandstillSummary) {
    for cause in Standstill.Cause.allCases {
      let before = Set(last.causes[cause]?.partitions ?? [])
      let stopped = (summary.causes[cause]?.partitions ?? []).filter { !before.contains($0) }
      if stopped.isEmpty { continue }
      logger.error(
        "partitions stand still",
        metadata: [
          "count": .stringConvertible(stopped.count), "which": "\(StandstillSummary.name(stopped))",
          "problem": "\(summary.sentence(cause))",
        ])
    }
    let stillStanding = Set(summary.causes.values.flatMap(\.partitions))
    let healed = last.causes.values.flatMap(\.partitions).filter { !stillStanding.contains($0) }
    if healed.isEmpty { return }
    logger.info(
      "partitions no longer stand still",
      metadata: [
        "count": .stringConvertible(healed.count), "which": "\(StandstillSummary.name(healed))",
      ])
  }
}
