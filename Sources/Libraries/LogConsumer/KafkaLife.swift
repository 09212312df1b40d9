import KafkaTransport
import Logging
import ServiceRuntime

/// What the service reports about Kafka as a whole. A problem is reported from its first sign, and
/// cleared only by evidence of life. Silence is no evidence, because librdkafka does not repeat its
/// errors.
///
/// Errors of single brokers are only suspicions until the inspector has asked: another broker may
/// serve everything that is needed, and partitions that are not served report that themselves.
///
/// Each session has its own value. A session may end before it can take back what it reported, so
/// the first evidence that the next session meets clears that as well.
struct KafkaLife {
  private let health: HealthState
  private let settings: ConsumerSettings
  private let logger: Logger
  private var repeated = RepeatedCause()
  private var problem: String?
  private var suspicion: String?
  /// Evidence that is older than the problem does not clear it.
  private var problemSince = 0
  private var lastProbe = 0
  private var isGroupRefused = false
  /// What an earlier session said of Kafka, or of the group, may still stand.
  private var mayInherit = (kafka: true, group: true)

  private static let probeMilliseconds = 1_000

  init(health: HealthState, settings: ConsumerSettings, logger: Logger) {
    self.health = health
    self.settings = settings
    self.logger = logger
  }

  /// An error of the client, or of a partition that this process does not own.
  mutating func met(_ error: KafkaError, at now: Int) {
    note(error)
    if error.isGroupRefused {
      isGroupRefused = true
      health.report(settings.healthName("group"), problem: error.explanation, logs: false)
    } else if error.isAccessRefused || error.isAllBrokersDown || problem != nil {
      report(error.explanation, now)
    } else if suspicion == nil {
      suspicion = "\(error)"
      problemSince = now
      lastProbe = 0
    }
  }

  /// No broker answered the inspector.
  mutating func isSilent(_ error: KafkaError?, at now: Int) {
    if let error { note(error) }
    // A cause that librdkafka reported earlier says more than a missing answer.
    if let error, error.isAccessRefused {
      report(error.explanation, now)
    } else {
      report(problem ?? suspicion ?? error.map { "\($0)" } ?? "no broker answers", now)
    }
  }

  /// A fetch succeeded, or a question that was asked at that time was answered.
  mutating func isAlive(since askedAt: Int) {
    guard problem != nil || suspicion != nil || mayInherit.kafka, askedAt >= problemSince else {
      return
    }
    suspicion = nil
    repeated.clear()
    guard problem != nil || mayInherit.kafka else { return }
    mayInherit.kafka = false
    health.report(settings.healthName("kafka"), problem: nil, logs: false)
    if problem != nil { logger.info("Kafka answers again") }
    problem = nil
  }

  /// The group has answered this member.
  mutating func groupAnswered() {
    guard isGroupRefused || mayInherit.group else { return }
    isGroupRefused = false
    mayInherit.group = false
    health.report(settings.healthName("group"), problem: nil, logs: false)
  }

  /// Whether somebody should ask Kafka whether it is available.
  mutating func wantsProbe(at now: Int) -> Bool {
    guard problem != nil || suspicion != nil, now - lastProbe >= Self.probeMilliseconds else {
      return false
    }
    lastProbe = now
    return true
  }

  private mutating func report(_ text: String, _ now: Int) {
    suspicion = nil
    problemSince = now
    guard problem != text else { return }
    problem = text
    health.report(settings.healthName("kafka"), problem: text, logs: false)
  }

  private mutating func note(_ error: KafkaError) {
    guard let times = repeated.note("\(error.code) \(error.summary)") else { return }
    logger.warning("Kafka", metadata: ["error": "\(error)", "times": "\(times)"])
  }
}
