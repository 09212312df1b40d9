import Foundation
import KafkaTransport
import Metering
import PostgresStore
import Recount

/// The second pass.
struct ImportRun {
  private(set) var lines: Int64 = 0
  private var events: Int64 = 0
  private var rejectedCount: Int64 = 0
  private var from: Int64?
  private var to: Int64?

  private let batch: String
  private let producer: String
  /// From `","source":` to `"subject":`, and so on.
  private let head: [UInt8]
  private let middle: [UInt8]
  private let tail: [UInt8]
  private let value = EventBytes(capacity: 16_384)

  init(batch: String, meter: String, file: String) {
    self.batch = batch
    producer = "import:\(batch)"
    func quoted(_ text: String) -> [UInt8] {
      let bytes = EventBytes(capacity: 4_096)
      bytes.append(quoted: text)
      return Array(bytes.bytes)
    }
    head =
      Array("\",\"source\":".utf8) + quoted("/import/\(batch)")
      + Array(",\"type\":\"license.usage.recorded\",\"subject\":".utf8)
    middle =
      Array("\",\"datacontenttype\":\"application/json\",\"import\":".utf8) + quoted(batch)
      + Array(",\"producer\":".utf8) + quoted(producer) + Array(",\"sequence\":".utf8)
    tail = Array(",\"data\":{\"meter\":\"\(meter)\",\"quantity\":1".utf8)
  }

  func summary(_ rejected: RejectedLines) -> JSON {
    [
      "batch": .text(batch), "lines": .integer(lines), "events": .integer(events),
      "rejected": .integer(rejectedCount),
      "rejected_by_reason": .object(rejected.byReason.map { ($0.reason, .integer($0.count)) }),
      "from": .optional(moment(from)),
      "to": .optional(moment(to)),
    ]
  }

  var text: String {
    """
    batch \(batch): \(Terminal.grouped(lines)) lines, \(Terminal.grouped(events)) events, \
    \(Terminal.grouped(rejectedCount)) rejected; from \(moment(from) ?? "-") to \(moment(to) ?? "-")
    """
  }

  private func moment(_ milliseconds: Int64?) -> String? {
    milliseconds.map { Moment(milliseconds: $0).description }
  }

  mutating func send(
    _ command: ImportLog, _ survey: FileSurvey, _ sender: EventSender, _ store: ImportStore,
    _ rejected: RejectedLines, _ progress: Progress
  ) throws {
    do {
      try sendAll(command, survey, sender, store, rejected, progress)
    } catch let error as KafkaError {
      throw refused(sender.firstError ?? error)
    }
  }

  private mutating func sendAll(
    _ command: ImportLog, _ survey: FileSurvey, _ sender: EventSender, _ store: ImportStore,
    _ rejected: RejectedLines, _ progress: Progress
  ) throws {
    let reader = try LineReader(
      path: command.file, maximumBytes: 1 << 20, skipsLeadingNULs: true)
    let clock = ContinuousClock()
    var written = clock.now
    while let line = try reader.next() {
      lines += 1
      try one(line, command, survey, sender, rejected, progress)
      guard lines & 255 == 0 else { continue }
      if Interrupt.isRequested { throw command.interrupted(batch) }
      try sender.poll()
      if let error = sender.firstError { throw error }
      progress.update(lines, note: sender.note)
      if written.duration(to: clock.now) > .seconds(5) {
        written = clock.now
        try store.update(batch, lines: lines, events: events, rejected: rejectedCount)
      }
    }
    try deliver(command, sender, progress)
    let report = ProducerReport(
      producer: producer, source: "/import/\(batch)", id: "report", accepted: events, pending: 0,
      dropped: 0, isFinal: true)
    report.write(to: value, now: Moment.now.milliseconds)
    let sent = try Array(producer.utf8).withUnsafeBytes {
      try sender.send(.other, key: $0, value: value.bytes)
    }
    guard sent else { throw command.interrupted(batch) }
    try deliver(command, sender, progress)
    try store.update(batch, lines: lines, events: events, rejected: rejectedCount, finished: true)
  }

  /// Waits until everything is acknowledged.
  private func deliver(
    _ command: ImportLog, _ sender: EventSender, _ progress: Progress
  ) throws {
    let done = lines
    try sender.flush { progress.update(done, note: sender.note) }
    if let error = sender.firstError { throw error }
  }

  private func refused(_ error: KafkaError) -> Failure {
    Failure(
      """
      the brokers refused events permanently (\(error)); batch \(batch) is unfinished; mend the \
      cause and run the same command to continue, and every line counts once
      """)
  }

  private mutating func one(
    _ line: LineReader.Line, _ command: ImportLog, _ survey: FileSurvey, _ sender: EventSender,
    _ rejected: RejectedLines, _ progress: Progress
  ) throws {
    guard case .bytes(let bytes) = line else {
      rejectedCount += 1
      return try rejected.add(lines, "longer than 1 MiB", [], progress)
    }
    do {
      let event = try AccessLogEvent.parse(
        bytes, format: command.format, licenseFrom: command.licenseFrom)
      guard event.timeMilliseconds >= survey.oldest.milliseconds else {
        throw AccessLogEvent.Refusal("older than --oldest")
      }
      guard event.timeMilliseconds <= survey.latest.milliseconds else {
        throw AccessLogEvent.Refusal("its time is in the future")
      }
      build(event)
      let sent = try Array(event.license.utf8).withUnsafeBytes {
        try sender.send(.event, key: $0, value: value.bytes)
      }
      guard sent else { throw command.interrupted(batch) }
      events += 1
      from = min(from ?? .max, event.timeMilliseconds)
      to = max(to ?? .min, event.timeMilliseconds)
    } catch let refusal as AccessLogEvent.Refusal {
      rejectedCount += 1
      try rejected.add(lines, refusal.description, bytes, progress)
    }
  }

  private func build(_ event: AccessLogEvent) {
    value.removeAll()
    value.append("{\"specversion\":\"1.0\",\"id\":\"")
    value.append(UInt64(lines))
    value.append(head)
    value.append(quoted: event.license)
    value.append(",\"time\":\"")
    value.append(time: event.timeMilliseconds)
    value.append(middle)
    value.append(UInt64(lines))
    value.append(tail)
    if let domain = event.domain, !domain.utf8.isEmpty, domain.utf8.count <= 512 {
      value.append(",\"domain\":")
      value.append(quoted: domain)
    }
    value.append("}}")
  }
}
