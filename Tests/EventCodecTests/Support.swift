import EventCodec
import Foundation
import Metering
import Recount

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// 2026-11-23T18:40:00Z.
let sampleTime: Int64 = 1_795_459_200_000

/// A usage event as raw JSON by member, so that a test can change one thing and leave the rest
/// valid.
struct Document {
  var members: [(name: String, json: String)] = [
    ("specversion", #""1.0""#), ("id", #""e-1""#), ("source", #""/validation/eu-1""#),
    ("type", #""license.usage.recorded""#), ("subject", #""lic_abc123""#),
    ("time", #""2026-11-23T18:40:00.123Z""#), ("producer", #""eu-1-7f3a""#),
    ("sequence", "4711"),
    ("data", #"{"meter":"api_calls","quantity":3,"domain":"app.example.com","feature":"x"}"#),
  ]
  var key: [UInt8]? = bytes("lic_abc123")
  var timestamp = sampleTime

  static var report: Document {
    Document()
      .with("type", #""license.producer.reported""#).without("subject").without("time")
      .without("sequence")
      .with("data", #"{"accepted":10,"pending":2,"dropped":1,"final":true}"#)
      .keyed(bytes("eu-1-7f3a"))
  }

  func with(_ name: String, _ json: String) -> Document {
    var copy = self
    if let index = copy.members.firstIndex(where: { $0.name == name }) {
      copy.members[index].json = json
    } else {
      copy.members.append((name, json))
    }
    return copy
  }

  func without(_ name: String) -> Document {
    var copy = self
    copy.members.removeAll { $0.name == name }
    return copy
  }

  /// Adds another member of that name after all others.
  func adding(_ name: String, _ json: String) -> Document {
    var copy = self
    copy.members.append((name, json))
    return copy
  }

  func keyed(_ key: [UInt8]?) -> Document {
    var copy = self
    copy.key = key
    return copy
  }

  /// Puts the data in as bytes, in place of `data`.
  func encoded(_ data: String) -> Document {
    without("data").with("data_base64", "\"\(Data(data.utf8).base64EncodedString())\"")
  }

  /// Sets the license, as member and as key.
  func of(_ subject: String) -> Document {
    with("subject", "\"\(subject)\"").keyed(bytes(subject))
  }

  func stamped(_ timestamp: Int64) -> Document {
    var copy = self
    copy.timestamp = timestamp
    return copy
  }

  var json: String {
    "{" + members.map { "\"\($0.name)\":\($0.json)" }.joined(separator: ",") + "}"
  }

  var record: LogRecord { record(bytes(json)) }

  func record(_ value: [UInt8]?) -> LogRecord {
    LogRecord(partition: 0, offset: 0, timestamp: timestamp, key: key, value: value)
  }
}

/// The complete result for a record, in the form that both programs share.
enum Outcome: Equatable {
  struct Usage: Equatable {
    var texts: [String: [UInt8]] = [:]
    var sequence: Int64?
    var time: Int64
    var quantity: Int64
  }

  struct Report: Equatable {
    var producer: [UInt8]
    var numbers: [Int64]
    var isFinal: Bool
  }

  case usage(Usage)
  case report(Report)
  case rejected(String, producer: [UInt8]?, sequence: Int64?)

  var reason: String? {
    guard case .rejected(let reason, _, _) = self else { return nil }
    return reason
  }

  var usage: Usage? {
    guard case .usage(let usage) = self else { return nil }
    return usage
  }

  func text(_ name: String) -> String? {
    usage?.texts[name].map { String(decoding: $0, as: UTF8.self) }
  }
}

extension Outcome {
  /// The recount's result.
  init(_ verdict: EventVerdict) {
    switch verdict {
    case .usage(let event):
      let texts: [String: String?] = [
        "id": event.id, "source": event.source, "subject": event.subject, "meter": event.meter,
        "producer": event.producer, "import": event.importBatch, "domain": event.domain,
        "feature": event.feature, "traceparent": event.traceparent,
      ]
      // The decoder passes a sequence on only together with its producer, because it means nothing
      // alone.
      self = .usage(
        Usage(
          texts: texts.compactMapValues { $0.map { Array($0.utf8) } },
          sequence: event.producer == nil ? nil : event.sequence, time: event.timeMilliseconds,
          quantity: event.quantity))
    case .report(let report):
      self = .report(
        Report(
          producer: Array(report.producer.utf8),
          numbers: [report.accepted, report.pending, report.dropped], isFinal: report.isFinal))
    case .rejected(let reason, _, let producer, let sequence):
      self = .rejected(reason, producer: producer, sequence: sequence)
    }
  }

  /// The decoder's result, with check 22 as the accumulator makes it.
  init(_ event: DecodedEvent, timestamp: Int64, _ settings: RecountSettings) {
    func owned(_ text: Text) -> [UInt8]? { text.isAbsent ? nil : Array(text.buffer) }
    let sequence = event.sequence < 0 ? nil : event.sequence
    func rejected(_ reason: RejectionReason) -> Outcome {
      .rejected(
        reason.rawValue, producer: sequence == nil ? nil : owned(event.producer),
        sequence: event.producer.isAbsent ? nil : sequence)
    }
    switch event.kind {
    case .rejected: self = rejected(event.reason)
    case .report:
      self = .report(
        Report(
          producer: owned(event.producer) ?? [],
          numbers: [event.accepted, event.pending, event.dropped], isFinal: event.isFinal))
    case .validation: preconditionFailure("the harness reads usage")
    case .usage:
      let verdict = EventTimeBounds.judge(
        time: event.time, record: timestamp, maxAge: settings.maxEventAgeMilliseconds)
      let oldest = settings.importBatches[ExactText(event.importBatch.string)]
      if verdict == .tooFarAhead {
        self = rejected(.tooFarAhead)
      } else if verdict == .tooOld, event.importBatch.isAbsent || (oldest ?? .max) > event.time {
        self = rejected(.tooOld)
      } else {
        let texts: [String: Text] = [
          "id": event.id, "source": event.source, "subject": event.subject,
          "producer": event.producer, "import": event.importBatch, "domain": event.domain,
          "feature": event.feature, "meter": event.meter,
        ]
        var owned = texts.compactMapValues(owned)
        if event.meter.isAbsent { owned["meter"] = bytes("api_calls") }
        // The decoder lends the bytes unchanged. The code that uses them parses them.
        owned["traceparent"] = TraceContext(event.traceparent.buffer).map { bytes($0.traceparent) }
        self = .usage(
          Usage(texts: owned, sequence: sequence, time: event.time, quantity: event.quantity))
      }
    }
  }
}

/// The decoder under test. Its memory ends where the value ends, so that a sanitizer notices if it
/// reads a byte too many.
struct DecoderHarness: ~Copyable {
  let settings: RecountSettings
  private var decoder: EventDecoder
  private var decodedSinceReset = 0

  init(_ settings: RecountSettings = RecountSettings()) {
    self.settings = settings
    decoder = EventDecoder(maxQuantity: settings.maxQuantity)
  }

  mutating func outcome(_ record: LogRecord) -> Outcome {
    // The decoder is reset sometimes, as by the accumulator, so that the arena is tested both empty
    // and used.
    decodedSinceReset += 1
    if decodedSinceReset == 100 {
      decoder.reset()
      decodedSinceReset = 0
    }
    let value = record.value.map(exactCopy)
    let key = record.key.map(exactCopy)
    defer {
      value?.deallocate()
      key?.deallocate()
    }
    let event = decoder.decode(
      RecordBytes(
        value: value.map { UnsafeRawBufferPointer($0) },
        key: key.map { UnsafeRawBufferPointer($0) },
        timestamp: record.timestamp))
    return Outcome(event, timestamp: record.timestamp, settings)
  }

  /// Nil if both programs say the same; otherwise both results and the document.
  mutating func disagreement(_ record: LogRecord) -> String? {
    let decoded = outcome(record)
    let recounted = Outcome(judge(record, settings))
    if decoded == recounted { return nil }
    let value = record.value.map { "\(String(decoding: $0, as: UTF8.self)) \($0.prefix(2_000))" }
    return
      "decoder: \(decoded)\nrecount: \(recounted)\nkey: \(record.key ?? [])\n\(value ?? "null")"
  }

  mutating func disagreement(_ document: Document) -> String? { disagreement(document.record) }

  /// The reason that both give; nil if the document is valid.
  mutating func reason(_ document: Document) -> String? {
    if let words = disagreement(document) { return "they disagree: \(words)" }
    return outcome(document.record).reason
  }
}

func exactCopy(_ bytes: [UInt8]) -> UnsafeMutableRawBufferPointer {
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
  copy.copyBytes(from: bytes)
  return copy
}
