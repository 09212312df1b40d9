import CRdKafka
import Synchronization

/// The events that librdkafka's callbacks record until the client's owner takes them.
///
/// It lives as long as its `ClientHandle`, which gives librdkafka an unretained pointer to it.
/// Rebalance callbacks run inside `consume` and `close`, delivery callbacks inside `poll` and
/// `flush`, and error callbacks inside any of these (`rd_kafka_poll_set_consumer`). Several threads
/// may poll a producer, so there are locks, but they are never taken per message.
final class CallbackState: Sendable {
  /// One entry of the rebalance queue.
  struct PendingRebalance: Sendable {
    var partitions: [TopicPartition]
    var isAssignment: Bool
    var isLost: Bool
  }

  /// The way in which a rebalance is answered.
  enum Answer: UInt8, Sendable {
    /// The client's owner takes it and answers.
    case byOwner
    /// The callback takes nothing and gives everything up.
    case givingUp
    /// The callback runs within `rd_kafka_consumer_close`. Its answer must be a single request,
    /// because librdkafka may end after it. There it takes every assignment for the end of all.
    case ending
  }

  /// The number of errors that are kept until somebody asks. The health page shows a few, and a
  /// storm of errors must not grow memory.
  static let maximumErrors = 32

  private let answer = Atomic<UInt8>(Answer.byOwner.rawValue)
  private let answersAtEnd = Atomic<Int>(0)
  private let wasAssigned = Atomic<Bool>(false)
  private let errors = Mutex<[KafkaError]>([])
  private let rebalances = Mutex<[PendingRebalance]>([])
  let onDelivery: KafkaProducer.DeliveryHandler?
  let doubts: DoubtCollector
  let group = GroupState()
  private let names: TopicNames

  init(_ names: TopicNames, onDelivery: KafkaProducer.DeliveryHandler? = nil) {
    self.names = names
    self.onDelivery = onDelivery
    doubts = DoubtCollector(names)
  }

  /// Makes the rebalance callback answer by itself from now on, because the owner takes no
  /// rebalances any more.
  func answersItself(by answer: Answer) { self.answer.store(answer.rawValue, ordering: .relaxed) }

  /// How many rebalances were answered within `rd_kafka_consumer_close`. Each could have been lost.
  var answersWhileEnding: Int { answersAtEnd.load(ordering: .relaxed) }

  /// Whether the group has ever given this member an assignment, even an empty one.
  var hasBeenAssigned: Bool { wasAssigned.load(ordering: .relaxed) }

  func takeErrors() -> [KafkaError] {
    errors.withLock { list in
      defer { list.removeAll() }
      return list
    }
  }

  func takeRebalance() -> PendingRebalance? {
    rebalances.withLock { $0.isEmpty ? nil : $0.removeFirst() }
  }

  func record(_ error: KafkaError) {
    errors.withLock { list in
      // A broker repeats its refusal at every attempt to connect.
      if list.contains(error) { return }
      if list.count == Self.maximumErrors { list.removeFirst() }
      list.append(error)
    }
  }

  private func record(_ rebalance: PendingRebalance) {
    rebalances.withLock { $0.append(rebalance) }
  }

  // MARK: Registration

  func register(on conf: OpaquePointer?, type: rd_kafka_type_t, hasGroup: Bool) {
    rd_kafka_conf_set_error_cb(conf) { client, code, reason, opaque in
      guard let opaque else { return }
      CallbackState.from(opaque).error(client, code, reason)
    }
    if hasGroup {
      rd_kafka_conf_set_rebalance_cb(conf) { client, code, partitions, opaque in
        guard let client, let opaque else { return }
        CallbackState.from(opaque).rebalance(client, code, partitions)
      }
    }
    if type == RD_KAFKA_PRODUCER, onDelivery != nil {
      rd_kafka_conf_set_dr_msg_cb(conf) { _, message, opaque in
        guard let message, let opaque else { return }
        CallbackState.from(opaque).delivered(message.pointee)
      }
    }
  }

  /// Reads librdkafka's log lines for doubts and for the group's state.
  ///
  /// - Parameter prints: whether the operator asked for the lines with `debug` or `log_level`.
  ///   librdkafka would print them if nobody took them.
  func registerLog(on conf: OpaquePointer?, prints: Bool) {
    if prints {
      rd_kafka_conf_set_log_cb(conf) { client, level, facility, line in
        rd_kafka_log_print(client, level, facility, line)
        CallbackState.log(client, facility, line)
      }
    } else {
      rd_kafka_conf_set_log_cb(conf) { client, _, facility, line in
        CallbackState.log(client, facility, line)
      }
    }
  }

  private static func log(
    _ client: OpaquePointer?, _ facility: UnsafePointer<CChar>?, _ line: UnsafePointer<CChar>?
  ) {
    guard let client, let facility, let line, let opaque = rd_kafka_opaque(client) else { return }
    let callbacks = from(opaque)
    callbacks.group.read(facility: facility, line: line)
    callbacks.doubts.read(facility: String(cString: facility), line: String(cString: line))
  }

  private static func from(_ opaque: UnsafeMutableRawPointer) -> CallbackState {
    Unmanaged<CallbackState>.fromOpaque(opaque).takeUnretainedValue()
  }

  private func error(_ client: OpaquePointer?, _ code: Int32, _ reason: UnsafePointer<CChar>?) {
    let isFatal = code == RD_KAFKA_RESP_ERR__FATAL.rawValue
    var code = code
    var detail = reason.map { String(cString: $0) } ?? ""
    if isFatal, let client {
      var message = [CChar](repeating: 0, count: 512)
      let underlying = rd_kafka_fatal_error(client, &message, message.count)
      if underlying != RD_KAFKA_RESP_ERR_NO_ERROR {
        code = underlying.rawValue
        detail = ClientHandle.text(message)
      }
    }
    record(KafkaError(code: code, operation: "client", isFatal: isFatal, detail: detail))
  }

  private func rebalance(
    _ client: OpaquePointer, _ code: rd_kafka_resp_err_t,
    _ partitions: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
  ) {
    if code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
      wasAssigned.store(true, ordering: .relaxed)
    }
    switch Answer(rawValue: answer.load(ordering: .relaxed)) {
    case .givingUp:
      KafkaConsumer.giveUp(client, isAssignment: code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
      return
    case .ending:
      answersAtEnd.add(1, ordering: .relaxed)
      _ = rd_kafka_assign(client, nil)
      return
    case .byOwner, nil: break
    }
    switch code {
    case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
      record(
        PendingRebalance(
          partitions: PartitionList.copy(partitions, names), isAssignment: true, isLost: false))
    case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
      record(
        PendingRebalance(
          partitions: PartitionList.copy(partitions, names), isAssignment: false,
          isLost: rd_kafka_assignment_lost(client) != 0))
    default:
      // Any other code means that the rebalance failed. Then everything must be given up.
      record(KafkaError(code, operation: "rebalance"))
      record(
        PendingRebalance(
          partitions: PartitionList.copy(partitions, names), isAssignment: false, isLost: true))
    }
  }

  private func delivered(_ message: rd_kafka_message_t) {
    let error =
      message.err == RD_KAFKA_RESP_ERR_NO_ERROR
      ? nil : KafkaError(message.err, operation: "produce")
    onDelivery?(
      KafkaProducer.Delivery(
        opaque: UInt(bitPattern: message._private), partition: message.partition,
        offset: message.offset, error: error))
  }
}
