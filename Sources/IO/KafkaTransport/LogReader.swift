import CRdKafka

/// Reads bounded stretches of partitions, without a group and without leaving a trace: for
/// reconcile and explain.
///
/// Reads ranges of a log, outside of any group. One thread uses it.
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
  /// They differ while a producer's transaction is open: its records are in the log, and nobody may
  /// read them yet.
  package enum Ends: Sendable {
    /// Those that may be read: the last stable offset. For whoever reads up to the end.
    case ofReadableRecords
    /// All that the brokers have accepted: the high watermark. For whoever says what is missing or
    /// how many records wait, because a record of an open transaction is neither read nor lost.
    case ofAllRecords
  }

  let handle: ClientHandle
  /// How long a read may go without any progress before it throws.
  private let stallTimeoutMilliseconds: Int32

  /// - Throws: `KafkaError` (`_INVALID_ARG`) if a property is refused. Does not wait for a broker.
  ///
  /// - Parameters:
  ///   - ends: what the end of a log is; a properties file that says otherwise is overruled.
  ///   - readsSingleRecords: fetches little ahead of what is read.
  package init(
    _ configuration: KafkaConfiguration, clientID: String, ends: Ends = .ofReadableRecords,
    stallTimeoutMilliseconds: Int32 = 60_000, readsSingleRecords: Bool = false
  ) throws(KafkaError) {
    let configuration = Self.configuration(configuration, ends)
    self.stallTimeoutMilliseconds = stallTimeoutMilliseconds
    var defaults = Self.defaults + [("client.id", clientID)]
    if readsSingleRecords {
      // A broker sends a whole batch all the same, however large.
      defaults += [("queued.min.messages", "1"), ("fetch.message.max.bytes", "65536")]
    }
    handle = try ClientHandle(
      RD_KAFKA_CONSUMER, configuration, defaults: defaults,
      callbacks: CallbackState(configuration.names))
  }

  /// What librdkafka is given: with `read_committed` it asks for the last stable offset, with
  /// `read_uncommitted` for the high watermark.
  static func configuration(_ given: KafkaConfiguration, _ ends: Ends) -> KafkaConfiguration {
    var configuration = given
    switch ends {
    case .ofReadableRecords: break
    case .ofAllRecords: configuration.insist("isolation.level", "read_uncommitted")
    }
    return configuration
  }

  /// Both ends of many logs, each with an answer or an error of its own.
  package func watermarks(
    of partitions: [TopicPartition], timeoutMilliseconds: Int32
  ) -> [TopicPartition: Result<LogEnds, KafkaError>] {
    handle.watermarks(of: partitions, timeoutMilliseconds: timeoutMilliseconds)
  }

  /// The error that explains another one best, e.g. a refused password for a missing broker.
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

  /// - Returns: nil if the topic is missing; never creates it.
  /// - Throws: also where the topic may be there but is not shown to us.
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

  /// One partition; see `readAll`. - Returns: the position reached.
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
  /// A stretch ends by position (a record at or past `to`, or the end of the partition), not by
  /// seeing an offset: control records and compaction leave gaps. One that reaches past the log's
  /// end ends there.
  ///
  /// - Parameters:
  ///   - ranges: at most one a partition.
  ///   - progress: called about every 1,000 records with the number handed to `body` so far.
  ///   - body: the record is valid only within the call.
  /// - Returns: for each partition the position reached: `to`, or where the log ended before it.
  /// - Throws: `isOffsetOutOfRange` if a `from` lies outside the log; `isTimeout` if no broker
  ///   answers for the stall timeout; what `body` throws.
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
      // One at a time, not in batches: a batch of librdkafka 2.0.2 can lose records of one
      // partition when another is started or stopped (see KafkaConsumer+Continuity.swift).
      guard let message = rd_kafka_consume_queue(session.queue, 20) else {
        // Errors of brokers come by the main queue, which nobody else serves.
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

/// The partitions of one `readAll`, fed into one queue. Stopped and freed by `stop`.
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
  /// The ranges by topic and partition. It is looked up once a record, without any String.
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
      // The call itself tells no more: it fails only for a partition that is being read already.
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
      // What a stretch that is read already still meets, behind its end, does not matter.
      if let index, stretches[index].isDone { return false }
      let error = KafkaError(
        code, operation: "read", detail: index.map { "\(stretches[$0].range.partition)" } ?? "")
      // What passes by itself (a leader that moves) is waited for, until the stall timeout.
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
    // Else it would go on to fetch up to the log's end.
    rd_kafka_consume_stop(stretches[index].topic, stretches[index].range.partition.partition)
  }

  func stop() {
    for i in stretches.indices where !stretches[i].isDone { finish(i) }
    for topic in topics.values { rd_kafka_topic_destroy(topic) }
    topics = [:]
    rd_kafka_queue_destroy(queue)
  }
}
