import Metering
import Recount

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// 2026-11-23T18:40:00Z.
let sampleTime: Int64 = 1_795_459_200_000

/// A usage event as raw JSON by member, so that a test can change one thing and leave the rest
/// valid.
struct EventFixture {
  var members: [(name: String, json: String)] = [
    ("specversion", #""1.0""#), ("id", #""e-1""#), ("source", #""/validation/eu-1""#),
    ("type", #""license.usage.recorded""#), ("subject", #""lic_abc123""#),
    ("time", #""2026-11-23T18:40:00.123Z""#), ("producer", #""eu-1-7f3a""#),
    ("sequence", "4711"),
    ("data", #"{"meter":"api_calls","quantity":3,"domain":"app.example.com","feature":"x"}"#),
  ]
  var key: [UInt8]? = bytes("lic_abc123")
  var timestamp = sampleTime
  var partition: Int32 = 0
  var offset: Int64 = 0
  var deadLetterHeader: String?

  static var report: EventFixture {
    EventFixture()
      .with("type", #""license.producer.reported""#).without("subject").without("time")
      .without("sequence")
      .with("data", #"{"accepted":10,"pending":2,"dropped":1,"final":true}"#)
      .keyed("eu-1-7f3a")
  }

  func with(_ name: String, _ json: String) -> EventFixture {
    var copy = self
    if let index = copy.members.firstIndex(where: { $0.name == name }) {
      copy.members[index].json = json
    } else {
      copy.members.append((name, json))
    }
    return copy
  }

  func without(_ name: String) -> EventFixture {
    var copy = self
    copy.members.removeAll { $0.name == name }
    return copy
  }

  /// Adds another member of that name after all others.
  func adding(_ name: String, _ json: String) -> EventFixture {
    var copy = self
    copy.members.append((name, json))
    return copy
  }

  func keyed(_ key: String?) -> EventFixture {
    var copy = self
    copy.key = key.map(bytes)
    return copy
  }

  func at(_ offset: Int64, timestamp: Int64? = nil) -> EventFixture {
    var copy = self
    copy.offset = offset
    copy.timestamp = timestamp ?? self.timestamp
    return copy
  }

  func requeuing(_ header: String) -> EventFixture {
    var copy = self
    copy.deadLetterHeader = header
    return copy
  }

  var json: String {
    "{" + members.map { "\"\($0.name)\":\($0.json)" }.joined(separator: ",") + "}"
  }

  var record: LogRecord {
    record(value: bytes(json))
  }

  func record(value: [UInt8]?) -> LogRecord {
    LogRecord(
      partition: partition, offset: offset, timestamp: timestamp, key: key, value: value,
      deadLetterHeader: deadLetterHeader)
  }

  func verdict(_ settings: RecountSettings = RecountSettings()) -> EventVerdict {
    judge(record, settings)
  }

  /// The event; nil if the record is not accepted as one.
  func event(_ settings: RecountSettings = RecountSettings()) -> UsageEvent? {
    guard case .usage(let event) = verdict(settings) else { return nil }
    return event
  }

  /// The reason of the rejection; nil if the record was not rejected.
  func reason(_ settings: RecountSettings = RecountSettings()) -> String? {
    verdict(settings).reason
  }
}

extension EventVerdict {
  var reason: String? {
    guard case .rejected(let reason, _, _, _) = self else { return nil }
    return reason
  }
}
