import EventCodec
import Metering
import Recount
import WebhookDelivery

#if canImport(DomainNames)
  import DomainNames
  import Licensing
#endif

/// Code that strangers' bytes reach, with properties that must hold whatever the bytes are.
///
/// A property that does not hold traps. Every driver notices that in the same way: the tests, the
/// seeded mutator of `deploy/fuzz`, and libFuzzer. libFuzzer gets the part without swift-crypto.
package enum FuzzTarget: String, CaseIterable, Sendable {
  case event
  case accessLog = "access-log"
  case answer
  case url
  case token
  case keys
  case domain

  /// Whether this build has the modules that the target needs.
  package var isAvailable: Bool {
    #if canImport(DomainNames)
      true
    #else
      [.event, .accessLog, .answer, .url].contains(self)
    #endif
  }

  package func run(_ bytes: [UInt8]) {
    switch self {
    case .event: Self.event(bytes)
    case .accessLog: Self.accessLog(bytes)
    case .answer: Self.answer(bytes)
    case .url: Self.url(bytes)
    case .token, .keys, .domain:
      #if canImport(DomainNames)
        LicenseFuzz.run(self, bytes)
      #endif
    }
  }

  // MARK: Core

  private static let timestamp: Int64 = 1_795_459_200_000
  private static let key = Array("lic_abc123".utf8)
  /// The decoder leaves the decision about the time to the code that counts.
  private static let timely: Set<String> = ["too_old", "too_far_ahead"]

  /// The decoder and the recount say the same about a record.
  private static func event(_ bytes: [UInt8]) {
    let judged = judge(
      LogRecord(partition: 0, offset: 0, timestamp: timestamp, key: key, value: bytes),
      RecountSettings())
    var decoder = EventDecoder(maxQuantity: RecountSettings().maxQuantity)
    let decoded = bytes.withUnsafeBytes { value in
      key.withUnsafeBytes { key in
        let event = decoder.decode(RecordBytes(value: value, key: key, timestamp: timestamp))
        return (event.kind, event.reason.rawValue, event.quantity, event.time)
      }
    }
    switch (judged, decoded.0) {
    case (.usage(let usage), .usage):
      precondition(usage.quantity == decoded.2 && usage.timeMilliseconds == decoded.3)
    case (.report, .report): break
    case (.rejected(let reason, _, _, _), .rejected): precondition(reason == decoded.1)
    case (.rejected(let reason, _, _, _), .usage): precondition(timely.contains(reason))
    default: preconditionFailure("the decoder and the recount disagree")
    }
  }

  private static func accessLog(_ bytes: [UInt8]) {
    for format in AccessLogFormat.allCases {
      do throws(AccessLogError) {
        _ = try AccessLogLine.parse(bytes, format: format)
      } catch {
        precondition(!error.reason.isEmpty)
      }
    }
  }

  /// The result does not depend on how an answer is cut into reads.
  private static func answer(_ bytes: [UInt8]) {
    func read(step: Int) -> (status: Int?, kept: [UInt8], isMalformed: Bool) {
      var reader = HTTPAnswerReader()
      var at = 0
      do throws(HTTPAnswerReader.Malformed) {
        while at < bytes.count {
          let end = min(bytes.count, at + step)
          _ = try reader.take(bytes[at..<end])
          at = end
        }
        return (reader.status, Array(reader.kept), false)
      } catch {
        return (nil, [], true)
      }
    }
    let (whole, single) = (read(step: max(1, bytes.count)), read(step: 1))
    precondition(whole == single)
  }

  /// An accepted URL, written out, reads as itself.
  private static func url(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    do throws(WebhookURL.Refusal) {
      let url = try WebhookURL(text, policy: TargetAddressPolicy(), allowsHTTP: true)
      let again = try WebhookURL(url.description, policy: TargetAddressPolicy(), allowsHTTP: true)
      precondition(again.description == url.description && again.port == url.port)
    } catch {
      precondition(!error.description.isEmpty)
    }
  }
}
