import Foundation
import KafkaTransport
import Logging
import MeteringTestKit
import Recount

import class EventPublisher.EventPublisher

/// A directory that is removed with the test.
final class TemporaryFolder {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "spool-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var spool: String { path + "/spool" }
}

func quietLogger() -> Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }

func configuration(_ brokers: String, _ directory: String) -> EventPublisher.Configuration {
  var configuration = EventPublisher.Configuration(brokers: brokers, spoolDirectory: directory)
  configuration.maximumBytes = 16 << 20
  configuration.segmentBytes = 256 << 10
  configuration.producerPrefix = "eu-1"
  return configuration
}

/// The result of an independent recount of the usage topic.
struct Count {
  var ids: [String: Int] = [:]
  struct Report {
    var producer: String
    var accepted: Int64
    var pending: Int64
    var dropped: Int64
    var isFinal: Bool
  }
  var duplicates = 0
  var deadLetters: [String] = []
  var reports: [Report] = []
  /// The sequences of the counted events, by partition.
  var sequences: [Int32: [Int64]] = [:]

  init(_ log: UsageLog) throws {
    var partitions: [Int32: PartitionRecount] = [:]
    try log.readAll { record in
      let value = record.value.map { Array($0) }
      let decision = partitions[
        record.partition,
        default: PartitionRecount(
          partition: record.partition, settings: RecountSettings(), countFrom: 0)
      ].feed(
        LogRecord(
          partition: record.partition, offset: record.offset, timestamp: record.timestamp,
          key: record.key.map { Array($0) }, value: value))
      switch decision {
      case .counted(let event):
        ids[event.id, default: 0] += 1
        sequences[record.partition, default: []].append(event.sequence ?? -1)
      case .duplicate: duplicates += 1
      case .deadLetter(let reason, _): deadLetters.append(reason)
      case .report(let report):
        reports.append(
          Report(
            producer: report.producer, accepted: report.accepted, pending: report.pending,
            dropped: report.dropped, isFinal: report.isFinal))
      }
    }
  }

  var total: Int { ids.values.reduce(0, +) }
}

/// An event as the recount reads it. It is separate from `Recount`'s own type, because the
/// publisher has one of the same name.
struct ReadEvent: Equatable {
  var id: String
  var source: String
  var subject: String
  var producer: String?
  var sequence: Int64?
  var time: Int64
  var meter: String
  var quantity: Int64
  var domain: String?
  var feature: String?
  var traceparent: String?

  /// Nil with the reason if it is no valid usage event.
  static func read(key: [UInt8], value: [UInt8]) -> (ReadEvent?, String) {
    var recount = PartitionRecount(
      partition: 0, settings: RecountSettings(maxEventAgeMilliseconds: .max / 4), countFrom: 0)
    let decision = recount.feed(
      LogRecord(partition: 0, offset: 0, timestamp: -1, key: key, value: value))
    guard case .counted(let event) = decision else { return (nil, "\(decision)") }
    return (
      ReadEvent(
        id: event.id, source: event.source, subject: event.subject, producer: event.producer,
        sequence: event.sequence, time: event.timeMilliseconds, meter: event.meter,
        quantity: event.quantity, domain: event.domain, feature: event.feature,
        traceparent: event.traceparent), ""
    )
  }
}
