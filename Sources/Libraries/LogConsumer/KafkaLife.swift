import KafkaTransport
import Logging
import ServiceRuntime

/// What the service says of Kafka as a whole: a problem from the first sign of it, and no problem
/// again only on evidence of life. Silence is none: librdkafka does not repeat its errors.
///
/// Errors of single brokers are only suspected until the inspector has asked: another broker may
/// serve all that is needed, and partitions that are not served are told by themselves.
struct KafkaLife {
  private let health: HealthState
  private let settings: ConsumerSettings
  private let logger: Logger
  private var repeated = RepeatedCause()
  private var problem: String?
  private var suspicion: String?
  /// Evidence that is older than the problem clears nothing.
  private var problemSince = 0
  private var lastProbe = 0
  private var isGroupRefused = false

  private static let probeMilliseconds = 1_000

  init(health: HealthState, settings: ConsumerSettings, logger: Logger) {
    self.health = health
    self.settings = settings
    self.logger = logger
  }

  /// An error of the client, or of no partition that is owned.
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
    // A cause that librdkafka told before says more than that nobody answers.
    if let error, error.isAccessRefused {
      report(error.explanation, now)
    } else {
      report(problem ?? suspicion ?? error.map { "\($0)" } ?? "no broker answers", now)
    }
  }

  /// A fetch, or an answer to a question that was asked at that time.
  mutating func isAlive(since askedAt: Int) {
    guard problem != nil || suspicion != nil, askedAt >= problemSince else { return }
    suspicion = nil
    repeated.clear()
    guard problem != nil else { return }
    problem = nil
    health.report(settings.healthName("kafka"), problem: nil, logs: false)
    logger.info("Kafka answers again")
  }

  /// The group has answered this member.
  mutating func groupAnswered() {
    guard isGroupRefused else { return }
    isGroupRefused = false
    health.report(settings.healthName("group"), problem: nil, logs: false)
  }

  /// Whether somebody should ask Kafka whether it is there.
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
