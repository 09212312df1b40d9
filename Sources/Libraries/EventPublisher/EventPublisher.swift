import Foundation
import KafkaTransport
public import Logging
import Metering
public import ServiceLifecycle
import Synchronization

/// Sends events to Kafka without ever making the caller wait.
///
/// `publish` appends to a spool on the local disk and returns. A thread moves the spool's records
/// to Kafka and frees them once all in-sync replicas have them. If a process is killed, the next
/// process with the same directory sends the events that it had accepted. It uses the same producer
/// name and sequences, so that a consumer recognizes repeated events, however late they arrive.
///
/// Accepted events survive the end of the process, however it ends. They survive an outage of Kafka
/// for as long as the spool has room. They survive a loss of power or a crash of the kernel only
/// with `SyncMode.interval`, and only if they are older than a second.
public final class EventPublisher: Service, Sendable {
  /// When the spool is written to the disk (see `METER_SPOOL_SYNC`).
  public enum SyncMode: String, Sendable, CaseIterable {
    /// The kernel decides, as with any file. A loss of power loses at most about 30 seconds.
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
    /// The spool's directory. It is made if it does not exist, but its parent must exist. Only one
    /// process at a time may use it.
    public var spoolDirectory: String
    /// How many bytes of the disk are used before events are dropped. It must be at least 1 MiB.
    public var maximumBytes = 1 << 30
    /// See `SyncMode`.
    public var sync = SyncMode.none
    /// The beginning of the name of a new spool. It has 1 to 100 letters, digits, `.`, `_` and `-`.
    public var producerPrefix = "publisher"
    /// The topic of usage events.
    public var usageTopic = TopicName.usage
    /// The topic of validation events.
    public var validationTopic = TopicName.validations
    /// The largest quantity of an event, which must be `METER_MAX_QUANTITY` of the consumers: 0 to
    /// 10^17. An event with more is invalid.
    public var maximumQuantity = Limits.quantity
    /// How many milliseconds `run()` and `stop()` go on sending at the end.
    public var drainMilliseconds = 5_000
    /// The size of one file of the spool. Nil means 16 MiB, or less in a small spool.
    public var segmentBytes: Int?

    /// The parameters are described at the members.
    public init(brokers: String, spoolDirectory: String) {
      self.brokers = brokers
      self.spoolDirectory = spoolDirectory
    }
  }

  /// Numbers for a metrics page. They are cumulative over the life of the spool unless they say
  /// otherwise.
  public struct Statistics: Sendable, Equatable {
    /// The counts of one topic.
    public struct Topic: Sendable, Equatable {
      /// The valid events that were published, including dropped ones.
      public var accepted: Int64
      /// The events in the spool that are not known to be in Kafka.
      public var pending: Int64
      /// The events that are lost, because there was no room, a file was damaged, or Kafka finally
      /// refused them.
      public var dropped: Int64
    }

    /// The counts of the usage topic.
    public var usage: Topic
    /// The counts of the validation topic.
    public var validations: Topic
    /// The events since the start of the process that break the contract.
    public var invalid: Int64
    /// The size of the spool's files.
    public var spoolBytes: Int
    /// How often sending has started over since the process started.
    public var restarts: Int64
    /// One sentence that says why events stay in the spool. Nil while they are sent.
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

  /// Opens the spool and begins to send its events. It does not wait for Kafka.
  ///
  /// - Parameter onProblem: called with one sentence that says why events stay in the spool, and
  ///   with nil when they are sent again. It is called on a thread of the publisher.
  /// - Throws: `SpoolError` if the directory cannot be used, or if a setting cannot work.
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
    // This is for records that the sender queues after a round. A round is sent immediately.
    kafka.set("linger.ms", "5")
    spool = try Spool(
      directory: configuration.spoolDirectory, maximumBytes: configuration.maximumBytes,
      segmentBytes: segmentBytes, producerPrefix: prefix,
      maximumQuantity: min(max(configuration.maximumQuantity, 0), Limits.largestQuantity))
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

  /// Takes an event. Any thread may call it, and it takes about a microsecond.
  @discardableResult
  public func publish(_ event: UsageEvent) -> PublishOutcome { append(event) }

  /// Takes an event. Any thread may call it, and it takes about a microsecond.
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

  /// Takes all of the events or none. It is for callers who can try again. A few hundred KiB always
  /// fit into an empty spool.
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
    // It blocks, so it must not run on a thread of the cooperative pool.
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      Thread.detachNewThread {
        self.stop()
        done.resume()
      }
    }
  }

  /// Accepts no more events, sends as many as it can within the configured time, and reports. The
  /// rest is for the next process with this directory. It blocks. Calls after the first return
  /// immediately.
  public func stop() { stop(drainMilliseconds: drainMilliseconds) }

  private func stop(drainMilliseconds: Int) {
    guard !isStopped.exchange(true, ordering: .relaxed) else { return }
    spool.stop()
    sender.stop(milliseconds: drainMilliseconds)
    upkeep.stop()
    spool.unlock()
  }

  /// The current numbers. Reading them is cheap.
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
