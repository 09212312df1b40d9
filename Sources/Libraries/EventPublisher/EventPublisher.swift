import Foundation
import KafkaTransport
public import Logging
import Metering
public import ServiceLifecycle
import Synchronization

/// Hands events to Kafka without ever making the caller wait.
///
/// `publish` appends to a spool on the local disk and returns; a thread moves the spool's records
/// to Kafka and frees them when all in-sync replicas have them. What a killed process had accepted,
/// the next one on the same directory sends, under the same producer name and sequences, so that a
/// consumer knows what it has seen, however late it comes again.
///
/// What `accepted` survives: the end of the process, however it ends, and Kafka being away for as
/// long as the spool has room. The loss of power or of the kernel: only with `SyncMode.interval`,
/// and what was older than a second.
public final class EventPublisher: Service, Sendable {
  /// What is written to the disk, when; see `METER_SPOOL_SYNC`.
  public enum SyncMode: String, Sendable, CaseIterable {
    /// The kernel decides, as with any file: at most some 30 seconds are lost with the power.
    case none
    /// Every second.
    case interval
  }

  /// How to publish.
  public struct Configuration: Sendable {
    /// `host:port,…`
    public var brokers: String
    /// A properties file of librdkafka settings (TLS, SASL, tuning), applied last.
    public var kafkaConfigFile: String?
    /// Made if it is missing, its parent is not; one process at a time.
    public var spoolDirectory: String
    /// How much of the disk is used before events are dropped; at least 1 MiB.
    public var maximumBytes = 1 << 30
    /// See `SyncMode`.
    public var sync = SyncMode.none
    /// Begins the name of a new spool: letters, digits, `.`, `_` and `-`, 1 to 100 of them.
    public var producerPrefix = "publisher"
    /// Where usage events go.
    public var usageTopic = TopicName.usage
    /// Where validation events go.
    public var validationTopic = TopicName.validations
    /// How long `run()` and `stop()` go on sending at the end, in milliseconds.
    public var drainMilliseconds = 5_000
    /// The size of one file of the spool. Nil means 16 MiB, or less in a small spool.
    public var segmentBytes: Int?

    /// See the members.
    public init(brokers: String, spoolDirectory: String) {
      self.brokers = brokers
      self.spoolDirectory = spoolDirectory
    }
  }

  /// Numbers for a metrics page; cumulative over the life of the spool, unless said otherwise.
  public struct Statistics: Sendable, Equatable {
    /// The counts of one topic.
    public struct Topic: Sendable, Equatable {
      /// Valid events handed over, dropped ones included.
      public var accepted: Int64
      /// In the spool, not known to be in Kafka.
      public var pending: Int64
      /// Events that are lost: there was no room, a file was damaged, or Kafka refused them
      /// finally.
      public var dropped: Int64
    }

    /// The counts of the usage topic.
    public var usage: Topic
    /// The counts of the validation topic.
    public var validations: Topic
    /// Events that break the contract, since the start of the process.
    public var invalid: Int64
    /// What the spool's files take.
    public var spoolBytes: Int
    /// How often sending has started over since the process started.
    public var restarts: Int64
    /// Why events stay in the spool, one sentence; nil while they are sent.
    public var problem: String?
  }

  /// The spool's name in the ledger.
  public var producer: String { spool.producer }

  private let spool: Spool
  private let sender: SpoolForwarder
  private let upkeep: SpoolUpkeep
  private let drainMilliseconds: Int
  private let invalid = Atomic<Int64>(0)
  private let isStopped = Atomic<Bool>(false)

  /// Opens the spool and begins to send what is in it. Does not wait for Kafka.
  ///
  /// - Parameter onProblem: told why events stay in the spool, one sentence, and nil when they are
  ///   sent again; on a thread of the publisher's.
  /// - Throws: `SpoolError` where the directory cannot be used, or a setting cannot work.
  public init(
    configuration: Configuration, logger: Logger,
    onProblem: @escaping @Sendable (String?) -> Void = { _ in }
  ) throws(SpoolError) {
    guard configuration.maximumBytes >= 1 << 20 else {
      throw .settings("METER_SPOOL_MAX_BYTES must be at least 1048576 (1 MiB)")
    }
    let prefix = configuration.producerPrefix
    guard (1...100).contains(prefix.utf8.count),
      prefix.utf8.allSatisfy({
        (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
          || [0x2D, 0x2E, 0x5F].contains($0)
      })
    else { throw .settings("a producer's name may have only letters, digits, . _ and -") }
    let segmentBytes =
      configuration.segmentBytes ?? min(16 << 20, configuration.maximumBytes / 4 & ~4_095)
    guard segmentBytes >= 4 * EventEncoder.capacity, segmentBytes < 1 << 31 else {
      throw .settings("a segment must have at least \(4 * EventEncoder.capacity) bytes")
    }
    var kafka: KafkaConfiguration
    do {
      kafka = try KafkaConfiguration(
        brokers: configuration.brokers, propertiesFile: configuration.kafkaConfigFile)
    } catch {
      throw .settings("METER_KAFKA_CONFIG_FILE: \(error.detail)")
    }
    // For what the sender hands over beyond a round. A round is sent immediately.
    kafka.set("linger.ms", "5")
    spool = try Spool(
      directory: configuration.spoolDirectory, maximumBytes: configuration.maximumBytes,
      segmentBytes: segmentBytes, producerPrefix: prefix)
    Self.log(spool.recovery, spool.producer, logger)
    sender = SpoolForwarder(
      spool: spool, configuration: kafka,
      topics: [configuration.usageTopic, configuration.validationTopic], logger: logger,
      onProblem: onProblem)
    upkeep = SpoolUpkeep(spool: spool, syncs: configuration.sync == .interval, logger: logger)
    drainMilliseconds = configuration.drainMilliseconds
  }

  deinit { stop(drainMilliseconds: 0) }

  private static func log(_ recovery: Spool.Recovery, _ producer: String, _ logger: Logger) {
    if recovery.pending > 0 {
      logger.notice(
        "events of an earlier process are sent first",
        metadata: ["events": .stringConvertible(recovery.pending), "producer": "\(producer)"])
    }
    for path in recovery.damaged {
      logger.error(
        "a file of the spool is damaged. The readable events are sent, and the file is kept",
        metadata: ["file": "\(path)", "events_lost": .stringConvertible(recovery.lost)])
    }
    if recovery.lost > 0, recovery.damaged.isEmpty {
      logger.error(
        "events that were accepted are no longer in the spool",
        metadata: ["events_lost": .stringConvertible(recovery.lost)])
    }
  }

  // MARK: Publishing

  /// Takes an event; from any thread, in about a microsecond.
  @discardableResult
  public func publish(_ event: UsageEvent) -> PublishOutcome { append(event) }

  /// Takes an event; from any thread, in about a microsecond.
  @discardableResult
  public func publish(_ event: ValidationEvent) -> PublishOutcome { append(event) }

  private func append(_ event: some Spool.Event) -> PublishOutcome {
    let outcome = spool.append(event, now: Self.now)
    switch outcome {
    case .accepted: break
    case .dropped: upkeep.noteDrop()
    case .invalid: invalid.add(1, ordering: .relaxed)
    }
    return outcome
  }

  /// Takes all of the events or none: for callers who can come again. A few hundred KiB always fit
  /// into an empty spool.
  public func publish(batch: [UsageEvent]) -> BatchOutcome {
    spool.append(batch: batch, now: Self.now)
  }

  /// Milliseconds since 1970.
  static var now: Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
  }

  // MARK: Life

  /// Waits for graceful shutdown or cancellation, then stops.
  public func run() async throws {
    try? await gracefulShutdown()
    // It blocks: not on a thread of the cooperative pool.
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      Thread.detachNewThread {
        self.stop()
        done.resume()
      }
    }
  }

  /// Takes no more events, sends what it can within the configured time, and reports; what is left
  /// is for the next process on the directory. Blocks; calls after the first return immediately.
  public func stop() { stop(drainMilliseconds: drainMilliseconds) }

  private func stop(drainMilliseconds: Int) {
    guard !isStopped.exchange(true, ordering: .relaxed) else { return }
    spool.stop()
    sender.stop(milliseconds: drainMilliseconds)
    upkeep.stop()
    spool.unlock()
  }

  /// A look at the numbers; cheap.
  public var statistics: Statistics {
    let status = sender.current
    func topic(_ index: Int) -> Statistics.Topic {
      let counts = spool.counts(index)
      return Statistics.Topic(
        accepted: counts.accepted, pending: counts.pending, dropped: counts.dropped)
    }
    return Statistics(
      usage: topic(0), validations: topic(1), invalid: invalid.load(ordering: .relaxed),
      spoolBytes: spool.bytes, restarts: status.restarts, problem: status.problem)
  }
}
