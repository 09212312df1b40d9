import CRdKafka

/// Reads ranges of partitions without a group and without leaving a trace, for reconcile and
/// explain.
///
/// One thread uses it.
///
/// It uses librdkafka's simple consumer, because `rd_kafka_assign` would need a group and the right
/// to use it.
package final class LogReader {
  /// The offsets of a partition from `from` (inclusive) to `to` (exclusive).
  package struct Range: Sendable, Hashable {
    package var partition: TopicPartition
    package var from: Int64
    package var to: Int64

    package init(_ partition: TopicPartition, from: Int64, to: Int64) {
      self.partition = partition
      self.from = from
      self.to = to
    }
  }

  /// Which records lie before the end of a log, as `watermarks` tells it.
  ///
  /// The two differ while a producer's transaction is open. Its records are in the log then, but
  /// nobody may read them yet.
  package enum Ends: Sendable {
    /// The records that may be read, up to the last stable offset. It is for reading up to the end.
    case ofReadableRecords
    /// All records that the brokers have accepted, up to the high watermark. It is for telling what
    /// is missing or how many records wait, because a record of an open transaction is neither read
    /// nor lost.
    case ofAllRecords
  }

  let handle: ClientHandle
  /// How long a read may go without any progress before it throws.
  private let stallTimeoutMilliseconds: Int32

  /// - Throws: `KafkaError` (`_INVALID_ARG`) if a property is refused. Does not wait for a broker.
  ///
  /// - Parameters:
  ///   - ends: which end of a log counts. It overrules a properties file.
  ///   - readsSingleRecords: whether to fetch little ahead of what is read.
  package init(
    _ configuration: KafkaConfiguration, clientID: String, ends: Ends = .ofReadableRecords,
    stallTimeoutMilliseconds: Int32 = 60_000, readsSingleRecords: Bool = false
  ) throws(KafkaError) {
    let configuration = Self.configuration(configuration, ends)
    self.stallTimeoutMilliseconds = stallTimeoutMilliseconds
    var defaults = Self.defaults + [("client.id", clientID)]
    if readsSingleRecords {
      // A broker sends a whole batch in any case, however large.
      defaults += [("queued.min.messages", "1"), ("fetch.message.max.bytes", "65536")]
    }
    handle = try ClientHandle(
      RD_KAFKA_CONSUMER, configuration, defaults: defaults,
      callbacks: CallbackState(configuration.names))
  }

  /// The settings for librdkafka. With `read_committed` it asks for the last stable offset, and
  /// with `read_uncommitted` for the high watermark.
  static func configuration(_ given: KafkaConfiguration, _ ends: Ends) -> KafkaConfiguration {
    var configuration = given
    switch ends {
    case .ofReadableRecords: break
    case .ofAllRecords: configuration.insist("isolation.level", "read_uncommitted")
    }
    return configuration
  }

  /// Both ends of many logs, each with its own answer or error.
  package func watermarks(
    of partitions: [TopicPartition], timeoutMilliseconds: Int32
  ) -> [TopicPartition: Result<LogEnds, KafkaError>] {
    handle.watermarks(of: partitions, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The error that explains another one best, such as a refused password in place of a missing
  /// broker.
  package func explained(_ error: KafkaError) -> KafkaError { handle.explained(error) }

  package func watermarks(
    _ partition: TopicPartition, timeoutMilliseconds: Int32 = 10_000
  ) throws(KafkaError) -> (low: Int64, high: Int64) {
    do throws(KafkaError) {
      return try handle.watermarks(partition, timeoutMilliseconds: timeoutMilliseconds)
    } catch {
      throw handle.explained(error)
    }
  }

  /// - Returns: nil if the topic does not exist. The call never creates it.
  /// - Throws: also if the topic may exist but is not shown to us.
  package func partitionCount(
    _ topic: String, timeoutMilliseconds: Int32 = 10_000
  ) throws(KafkaError) -> Int? {
    do throws(KafkaError) {
      if let count = try handle.partitionCount(topic, timeoutMilliseconds: timeoutMilliseconds) {
        return count
      }
    } catch {
      throw handle.explained(error)
    }
    if let refusal = handle.refusal(ofTopic: topic, timeoutMilliseconds: timeoutMilliseconds) {
      throw refusal
    }
    return nil
  }

  /// Reads one partition (see `readAll`).
  ///
  /// - Returns: the position that was reached.
  @discardableResult
  package func read(
    _ partition: TopicPartition, from: Int64, to endExclusive: Int64,
    _ body: (RecordView) throws -> Void
  ) throws -> Int64 {
    try readAll([Range(partition, from: from, to: endExclusive)], body)[partition] ?? from
  }

  /// Reads all ranges at the same time. The records of each come in the order of their offsets,
  /// mixed with those of the others.
  ///
  /// A range ends at a position (a record at or after `to`, or the end of the partition) and not at
  /// a certain record, because control records and compaction leave gaps. A range that reaches past
  /// the log's end ends there.
  ///
  /// - Parameters:
  ///   - ranges: at most one range for each partition.
  ///   - progress: called about every 1,000 records with the number of records so far.
  ///   - body: the record is valid only within the call.
  /// - Returns: the position that was reached for each partition. It is `to`, or the end of the log
  ///   if that is before it.
  /// - Throws: `isOffsetOutOfRange` if a `from` lies outside of the log. `isTimeout` if no broker
  ///   answers for the stall timeout. Any error of `body`.
  @discardableResult
  package func readAll(
    _ ranges: [Range], progress: (Int64) -> Void = { _ in },
    _ body: (RecordView) throws -> Void
  ) throws -> [TopicPartition: Int64] {
    var positions: [TopicPartition: Int64] = [:]
    var wanted: [Range] = []
    for range in ranges {
      precondition(positions[range.partition] == nil, "one range a partition")
      positions[range.partition] = max(range.from, range.to)
      guard range.from < range.to else {
        positions[range.partition] = range.from
        continue
      }
      try checkStart(range)
      wanted.append(range)
    }
    guard !wanted.isEmpty else { return positions }
    let session = ReadSession(handle)
    defer { session.stop() }
    for range in wanted { try session.start(range) }

    let clock = ContinuousClock()
    var lastProgress = clock.now
    var delivered: Int64 = 0
    var handled = 0
    var handledBefore = 0
    while !session.isDone {
      // Records are read one at a time, because a batch of librdkafka 2.0.2 can lose records of one
      // partition when another is started or stopped (see KafkaConsumer+Continuity.swift).
      guard let message = rd_kafka_consume_queue(session.queue, 20) else {
        // Errors of brokers come through the main queue, which nobody else serves.
        rd_kafka_poll(handle.raw, 0)
        if handled != handledBefore {
          handledBefore = handled
          lastProgress = clock.now
        }
        guard lastProgress.duration(to: clock.now) < .milliseconds(stallTimeoutMilliseconds) else {
          throw stalled()
        }
        continue
      }
      defer { rd_kafka_message_destroy(message) }
      if try session.handle(message, body) { delivered += 1 }
      handled += 1
      if handled % 1_024 == 0 || session.isDone { progress(delivered) }
    }
    positions.merge(session.positions) { $1 }
    return positions
  }

  private func checkStart(_ range: Range) throws(KafkaError) {
    let (low, high) = try watermarks(range.partition)
    if range.from < low || range.from > high {
      throw KafkaError(
        RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE, operation: "read",
        detail:
          "\(range.partition): offset \(range.from) is outside the log, which reaches from \(low) to \(high)"
      )
    }
  }

  private func stalled() -> KafkaError {
    let errors = handle.callbacks.takeErrors().map(\.description).joined(separator: "; ")
    return KafkaError(
      RD_KAFKA_RESP_ERR__TIMED_OUT, operation: "read",
      detail:
        "nothing arrived for \(stallTimeoutMilliseconds) ms\(errors.isEmpty ? "" : ": " + errors)")
  }

  private static let defaults: [(String, String)] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("enable.partition.eof", "true"),
    ("fetch.wait.max.ms", "20"),
    ("queued.min.messages", "1000000"),
    ("queued.max.messages.kbytes", "262144"),
    ("fetch.message.max.bytes", "4194304"),
    ("allow.auto.create.topics", "false"),
    ("isolation.level", "read_committed"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.nagle.disable", "true"),
  ]
}

/// The partitions of one `readAll`, with one queue. `stop` stops and frees them.
private final class ReadSession {
  private struct Stretch {
    var range: LogReader.Range
    var topic: OpaquePointer
    var position: Int64
    var isDone = false
  }

  private let client: ClientHandle
  let queue: OpaquePointer
  private var topics: [String: OpaquePointer] = [:]
  private var stretches: [Stretch] = []
  /// The ranges by topic and partition. Every record is looked up here, without any String.
  private var indices: [OpaquePointer: [Int32: Int]] = [:]
  private var remaining = 0

  init(_ client: ClientHandle) {
    self.client = client
    queue = rd_kafka_queue_new(client.raw)
  }

  var isDone: Bool { remaining == 0 }

  var positions: [TopicPartition: Int64] {
    Dictionary(uniqueKeysWithValues: stretches.map { ($0.range.partition, $0.position) })
  }

  func start(_ range: LogReader.Range) throws(KafkaError) {
    let name = range.partition.topic
    guard
      let topic = topics[name] ?? rd_kafka_topic_new(client.raw, client.names.atBrokers(name), nil)
    else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "read",
        detail: "librdkafka refuses the topic's name")
    }
    topics[name] = topic
    guard
      rd_kafka_consume_start_queue(topic, range.partition.partition, range.from, queue) == 0
    else {
      // The call gives no reason. It fails only for a partition that is already being read.
      throw KafkaError(
        RD_KAFKA_RESP_ERR__CONFLICT, operation: "read", detail: "\(range.partition)")
    }
    indices[topic, default: [:]][range.partition.partition] = stretches.count
    stretches.append(Stretch(range: range, topic: topic, position: range.from))
    remaining += 1
  }

  /// - Returns: whether `body` was given a record.
  func handle(
    _ message: UnsafeMutablePointer<rd_kafka_message_t>, _ body: (RecordView) throws -> Void
  ) throws -> Bool {
    let index = message.pointee.rkt.flatMap { indices[$0]?[message.pointee.partition] }
    let code = message.pointee.err
    let isEnd = code == RD_KAFKA_RESP_ERR__PARTITION_EOF
    if code != RD_KAFKA_RESP_ERR_NO_ERROR && !isEnd {
      // Records after the end of a finished range do not matter.
      if let index, stretches[index].isDone { return false }
      let error = KafkaError(
        code, operation: "read", detail: index.map { "\(stretches[$0].range.partition)" } ?? "")
      // An error that passes by itself, such as a moving leader, is waited for until the stall
      // timeout.
      if error.isRetriable { return false }
      throw error
    }
    guard let index, !stretches[index].isDone else { return false }
    let offset = message.pointee.offset
    let end = stretches[index].range.to
    if isEnd || offset >= end {
      stretches[index].position = min(max(offset, stretches[index].position), end)
      finish(index)
      return false
    }
    try body(RecordView(message))
    stretches[index].position = offset + 1
    if offset + 1 >= end { finish(index) }
    return true
  }

  private func finish(_ index: Int) {
    stretches[index].isDone = true
    remaining -= 1
    // Otherwise it would go on fetching up to the log's end.
    rd_kafka_consume_stop(stretches[index].topic, stretches[index].range.partition.partition)
  }

  func stop() {
    for i in stretches.indices where !stretches[i].isDone { finish(i) }
    for topic in topics.values { rd_kafka_topic_destroy(topic) }
    topics = [:]
    rd_kafka_queue_destroy(queue)
  }
}
