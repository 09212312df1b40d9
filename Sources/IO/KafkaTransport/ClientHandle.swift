import CRdKafka

/// Owns one `rd_kafka_t` and, for a consumer, its queue.
///
/// It is freed in `deinit`, on the thread that drops the last reference. The client keeps a
/// reference, and so does every `MessageBatch` that still holds its messages, because
/// `rd_kafka_destroy` waits for those. `rd_kafka_destroy` blocks until librdkafka's threads have
/// ended.
///
/// `@unchecked Sendable`: both pointers are set once in `init`, and librdkafka documents that
/// `rd_kafka_t` and `rd_kafka_queue_t` may be used by any thread. `callbacks` is guarded by itself.
final class ClientHandle: @unchecked Sendable {
  let raw: OpaquePointer
  /// The consumer's queue or the main queue, to poll or to wake.
  let queue: OpaquePointer
  let callbacks: CallbackState
  let names: TopicNames
  /// Whether it is a member of a group. `deinit` needs to know that.
  private let isMember: Bool

  /// - Parameters:
  ///   - defaults: the settings of this kind of client. `configuration` overrides them.
  ///   - hasGroup: whether there is a `group.id`. The main queue is then forwarded to the
  ///     consumer's, so that errors arrive in the same call as messages.
  init(
    _ type: rd_kafka_type_t, _ configuration: KafkaConfiguration, defaults: [(String, String)],
    callbacks: CallbackState, hasGroup: Bool = false
  ) throws(KafkaError) {
    isMember = hasGroup
    names = configuration.names
    var conf: OpaquePointer? = rd_kafka_conf_new()
    // `rd_kafka_new` takes over the configuration only if it succeeds.
    defer { if let conf { rd_kafka_conf_destroy(conf) } }
    for (key, value) in defaults + configuration.properties {
      try Self.set(conf, key, value)
    }
    let properties = configuration.properties
    // By default librdkafka prints to stderr, between the lines of our own log. Its messages at
    // that level also reach `error_cb`. An operator who sets `debug` or `log_level` wants the
    // prints.
    let prints = properties.contains { $0.0 == "debug" || $0.0 == "log_level" }
    if hasGroup {
      callbacks.registerLog(on: conf, prints: prints)
    } else if !prints {
      rd_kafka_conf_set_log_cb(conf, nil)
    }
    rd_kafka_conf_set_opaque(conf, Unmanaged.passUnretained(callbacks).toOpaque())
    callbacks.register(on: conf, type: type, hasGroup: hasGroup)

    var message = [CChar](repeating: 0, count: 512)
    guard let raw = rd_kafka_new(type, conf, &message, message.count) else {
      // librdkafka's text may quote a value such as a path or a PEM error, but never a password.
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "open", detail: Self.text(message))
    }
    conf = nil
    self.raw = raw
    self.callbacks = callbacks
    if hasGroup {
      rd_kafka_poll_set_consumer(raw)
      queue = rd_kafka_queue_get_consumer(raw)
    } else {
      queue = rd_kafka_queue_get_main(raw)
    }
  }

  deinit {
    callbacks.answersItself(by: .ending)
    rd_kafka_queue_destroy(queue)
    if isMember, !callbacks.hasBeenAssigned {
      // librdkafka 2.0.2 aborts the process when it frees a consumer that joined a group and was
      // never assigned anything (`Assertion 'assignor_state' failed`; its issue 4312, mended in
      // 2.3.0). `close` has left the group. The client has fetched nothing. It stays until the
      // process ends, together with the objects that its threads may still call.
      _ = Unmanaged.passRetained(callbacks)
      return
    }
    rd_kafka_destroy(raw)
  }

  static func text(_ buffer: [CChar]) -> String {
    String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  static func set(
    _ conf: OpaquePointer?, _ key: String, _ value: String
  ) throws(KafkaError) {
    // librdkafka's own text would quote the value, so it is not requested.
    switch rd_kafka_conf_set(conf, key, value, nil, 0) {
    case RD_KAFKA_CONF_OK: return
    case RD_KAFKA_CONF_UNKNOWN:
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "configure",
        detail: "this build of librdkafka has no property \(key)")
    default:
      throw KafkaError(
        RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "configure",
        detail: "librdkafka refuses the value of the property \(key)")
    }
  }

  /// The underlying error, once the client cannot be used any more.
  func fatalError(_ operation: String) -> KafkaError? {
    // Every poll calls this, so the usual answer must not cost a buffer.
    var nothing: CChar = 0
    let code = rd_kafka_fatal_error(raw, &nothing, 1)
    guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return nil }
    var message = [CChar](repeating: 0, count: 512)
    _ = rd_kafka_fatal_error(raw, &message, message.count)
    return KafkaError(
      code: code.rawValue, operation: operation, isFatal: true, detail: Self.text(message))
  }

  /// The number of partitions of the topic. Nil if no broker knows it, or if none lets us see it.
  ///
  /// It asks for all topics and picks one. Brokers with `auto.create.topics.enable`, and the mock
  /// cluster, would create a topic that the request names.
  func partitionCount(_ topic: String, timeoutMilliseconds: Int32) throws(KafkaError) -> Int? {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try check(rd_kafka_metadata(raw, 1, nil, &metadata, timeoutMilliseconds), "metadata", topic)
    defer { rd_kafka_metadata_destroy(metadata) }
    let topics = UnsafeBufferPointer(
      start: metadata!.pointee.topics, count: Int(metadata!.pointee.topic_cnt))
    let name = names.atBrokers(topic)
    guard let found = topics.first(where: { String(cString: $0.topic) == name }) else {
      return nil
    }
    switch found.err {
    case RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE: break
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: return nil
    default: throw KafkaError(found.err, operation: "metadata", detail: topic)
    }
    return found.partition_cnt == 0 ? nil : Int(found.partition_cnt)
  }

  /// Asks the partition's leader for both ends of the log.
  ///
  /// It uses ListOffsets with the special times -2 and -1. `rd_kafka_query_watermark_offsets` of
  /// 2.0.2 does the same, but it ignores its timeout while the leader is down and blocks for
  /// minutes.
  func watermarks(
    _ partition: TopicPartition, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> (low: Int64, high: Int64) {
    let low = try end(
      of: partition, Int64(RD_KAFKA_OFFSET_BEGINNING), timeoutMilliseconds: timeoutMilliseconds)
    let high = try end(
      of: partition, Int64(RD_KAFKA_OFFSET_END), timeoutMilliseconds: timeoutMilliseconds)
    return (low, high)
  }

  /// Both ends of many logs, each with its own answer or error.
  ///
  /// This usually takes one request to each broker. If a partition has no leader, librdkafka waits
  /// for the timeout and then refuses the whole list. Then the others are asked for without it.
  func watermarks(
    of partitions: [TopicPartition], timeoutMilliseconds: Int32
  ) -> [TopicPartition: Result<LogEnds, KafkaError>] {
    var lows = ends(
      partitions, Int64(RD_KAFKA_OFFSET_BEGINNING), min(timeoutMilliseconds, 1_000))
    if lows == nil {
      let led: [TopicPartition]
      do throws(KafkaError) {
        led = try ledPartitions(of: partitions, timeoutMilliseconds)
      } catch {
        return Dictionary(uniqueKeysWithValues: partitions.map { ($0, .failure(error)) })
      }
      lows = led.isEmpty ? [:] : ends(led, Int64(RD_KAFKA_OFFSET_BEGINNING), timeoutMilliseconds)
      if lows == nil { return oneByOne(partitions, led, timeoutMilliseconds) }
    }
    let found = (lows ?? [:]).filter { (try? $0.value.get()) != nil }.map(\.key)
    let highs =
      found.isEmpty ? [:] : ends(found, Int64(RD_KAFKA_OFFSET_END), timeoutMilliseconds) ?? [:]
    var answers: [TopicPartition: Result<LogEnds, KafkaError>] = [:]
    for partition in partitions {
      let low = lows?[partition] ?? .failure(Self.noLeader(partition))
      let high = highs[partition] ?? .failure(Self.noLeader(partition))
      answers[partition] = low.flatMap { low in high.map { LogEnds(low: low, high: $0) } }
    }
    return answers
  }

  /// Asks for each partition separately, because a broker may hang. It takes a few seconds in total
  /// at most.
  private func oneByOne(
    _ partitions: [TopicPartition], _ led: [TopicPartition], _ timeoutMilliseconds: Int32
  ) -> [TopicPartition: Result<LogEnds, KafkaError>] {
    let led = Set(led)
    let end = ContinuousClock.now.advanced(by: .milliseconds(Int(timeoutMilliseconds) * 4))
    var answers: [TopicPartition: Result<LogEnds, KafkaError>] = [:]
    for partition in partitions {
      guard led.contains(partition), ContinuousClock.now < end else {
        answers[partition] = .failure(Self.noLeader(partition))
        continue
      }
      do throws(KafkaError) {
        let (low, high) = try watermarks(
          partition, timeoutMilliseconds: max(500, timeoutMilliseconds / 4))
        answers[partition] = .success(LogEnds(low: low, high: high))
      } catch {
        answers[partition] = .failure(error)
      }
    }
    return answers
  }

  private static func noLeader(_ partition: TopicPartition) -> KafkaError {
    KafkaError(
      RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, operation: "watermarks",
      detail: partition.description)
  }

  /// The partitions that have a leader according to the brokers.
  ///
  /// - Throws: no broker answers.
  private func ledPartitions(
    of partitions: [TopicPartition], _ timeoutMilliseconds: Int32
  ) throws(KafkaError) -> [TopicPartition] {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try check(rd_kafka_metadata(raw, 1, nil, &metadata, timeoutMilliseconds), "metadata")
    guard let metadata else { return [] }
    defer { rd_kafka_metadata_destroy(metadata) }
    var led: Set<TopicPartition> = []
    let wanted = Set(partitions.map(\.topic))
    for topic in UnsafeBufferPointer(
      start: metadata.pointee.topics, count: Int(metadata.pointee.topic_cnt))
    {
      let name = names.here(topic.topic)
      guard wanted.contains(name) else { continue }
      for partition in UnsafeBufferPointer(
        start: topic.partitions, count: Int(topic.partition_cnt)) where partition.leader >= 0
      {
        led.insert(TopicPartition(topic: name, partition: partition.id))
      }
    }
    return partitions.filter(led.contains)
  }

  /// - Returns: nil if the list was refused as a whole.
  private func ends(
    _ partitions: [TopicPartition], _ which: Int64, _ timeoutMilliseconds: Int32
  ) -> [TopicPartition: Result<Int64, KafkaError>]? {
    let list = PartitionList(partitions.map { ($0, which) }, names)
    guard
      rd_kafka_offsets_for_times(raw, list.raw, timeoutMilliseconds)
        == RD_KAFKA_RESP_ERR_NO_ERROR
    else { return nil }
    var answers: [TopicPartition: Result<Int64, KafkaError>] = [:]
    for element in UnsafeBufferPointer(
      start: list.raw.pointee.elems, count: Int(list.raw.pointee.cnt))
    {
      let partition = TopicPartition(
        topic: names.here(element.topic), partition: element.partition)
      if element.err == RD_KAFKA_RESP_ERR_NO_ERROR, element.offset >= 0 {
        answers[partition] = .success(element.offset)
      } else {
        let code =
          element.err == RD_KAFKA_RESP_ERR_NO_ERROR ? RD_KAFKA_RESP_ERR__NO_OFFSET : element.err
        answers[partition] = .failure(
          KafkaError(code, operation: "watermarks", detail: partition.description))
      }
    }
    return answers
  }

  /// Why the list of all topics does not contain a topic, if a broker gives a reason other than
  /// that it does not exist. It may be hidden from us. This asks for the topic by name, which
  /// creates nothing because `allow.auto.create.topics` is off. The mock cluster would create it
  /// nevertheless, so it is not asked.
  func refusal(ofTopic topic: String, timeoutMilliseconds: Int32) -> KafkaError? {
    guard let id = rd_kafka_clusterid(raw, timeoutMilliseconds) else { return nil }
    defer { rd_kafka_mem_free(raw, id) }
    if String(cString: id).hasPrefix("mockCluster") { return nil }
    let list = PartitionList(
      [
        (TopicPartition(topic: topic, partition: 0), Int64(RD_KAFKA_OFFSET_END))
      ], names)
    let code = rd_kafka_offsets_for_times(raw, list.raw, timeoutMilliseconds)
    for code in [list.raw.pointee.elems.pointee.err, code] {
      let error = KafkaError(code: code.rawValue, operation: "metadata", detail: topic)
      if error.isAccessRefused { return error }
    }
    return nil
  }

  /// The error that explains another one best. A broker that seems unreachable may be one that
  /// refuses the password or the certificate, which librdkafka reports only to its error callback.
  func explained(_ error: KafkaError) -> KafkaError {
    if !isMember { rd_kafka_poll(raw, 0) }
    return callbacks.takeErrors().last { $0.isAccessRefused } ?? error
  }

  private func end(
    of partition: TopicPartition, _ which: Int64, timeoutMilliseconds: Int32
  ) throws(KafkaError) -> Int64 {
    let list = PartitionList([(partition, which)], names)
    try check(
      rd_kafka_offsets_for_times(raw, list.raw, timeoutMilliseconds), "watermarks",
      partition.description)
    try check(list.raw.pointee.elems.pointee.err, "watermarks", partition.description)
    let offset = list.raw.pointee.elems.pointee.offset
    guard offset >= 0 else {
      throw KafkaError(
        RD_KAFKA_RESP_ERR__NO_OFFSET, operation: "watermarks", detail: partition.description)
    }
    return offset
  }
}
