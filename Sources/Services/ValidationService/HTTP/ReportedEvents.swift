import EventCodec
import EventPublisher
import JSONText
import Metering

/// The body of `POST /v1/events`: usage events of a customer, judged as the aggregator will judge them, so that what is taken never becomes a
/// dead letter.
struct ReportedEvents {
  static let maximumBytes = 1 << 20
  static let maximumEvents = 1_000

  struct Rejected: Sendable, Equatable {
    var index: Int
    var id: String?
    var reason: String
  }

  private(set) var events: [UsageEvent] = []
  private(set) var rejected: [Rejected] = []
  /// Of all events that name one, rejected ones too.
  private(set) var subjects: Set<String> = []

  /// - Parameters:
  ///   - now: milliseconds since 1970.
  /// - Throws: `Problem`, 400.
  init(_ body: [UInt8], isBatch: Bool?, customerID: String, now: Int64) throws {
    let ranges: [Range<Int>]
    do {
      if let elements = try JSONReader.elements(of: body) {
        if isBatch == false { throw Self.form }
        ranges = elements
      } else {
        if isBatch == true || (try? JSONReader.parse(body))?.members == nil { throw Self.form }
        ranges = [0..<body.count]
      }
    } catch let error as JSONError {
      throw Problem.badRequest("not_json", "The body is not JSON: \(error).")
    }
    guard ranges.count <= Self.maximumEvents else {
      throw Problem.badRequest(
        "too_many_events", "At most \(Self.maximumEvents) events are taken at once.")
    }
    var decoder = EventDecoder()
    for (index, range) in ranges.enumerated() {
      read(Array(body[range]), index, customerID, now, &decoder)
      decoder.reset()
    }
  }

  private static let form = Problem.badRequest(
    "bad_request",
    "The body must be one CloudEvent (application/cloudevents+json) or an array of them (application/cloudevents-batch+json)."
  )

  private mutating func read(
    _ value: [UInt8], _ index: Int, _ customerID: String, _ now: Int64,
    _ decoder: inout EventDecoder
  ) {
    let members = (try? JSONReader.parse(value))?.members ?? []
    let id = members["id"]?.text
    let subject = members["subject"]?.text ?? ""
    if !subject.isEmpty { subjects.insert(subject) }
    func reject(_ reason: RejectionReason) {
      rejected.append(Rejected(index: index, id: id, reason: reason.rawValue))
    }
    // Only the operator imports what is older than events may be.
    if let batch = members["import"], batch != .null { return reject(.badData) }
    guard members["type"]?.text == "license.usage.recorded" else {
      return reject(members["type"] == nil ? .notCloudEvent : .wrongType)
    }
    let key = Array(subject.utf8)
    let (reason, event) = value.withUnsafeBytes { value in
      key.withUnsafeBytes { key -> (RejectionReason?, UsageEvent?) in
        let decoded = decoder.decode(RecordBytes(value: value, key: key, timestamp: -1))
        guard decoded.kind == .usage else { return (decoded.reason, nil) }
        if decoded.time > now + Limits.aheadMilliseconds { return (.tooFarAhead, nil) }
        if decoded.time < now - Limits.eventAgeMilliseconds { return (.tooOld, nil) }
        let source = members["source"]?.text ?? ""
        // Of the customer's own making, and kept apart from all others': so nobody's events are taken for duplicates of another's.
        let own = "/customers/\(customerID)" + (source.hasPrefix("/") ? source : "/" + source)
        guard own.utf8.count <= Limits.identityBytes else { return (.overSize, nil) }
        return (
          nil,
          UsageEvent(
            id: id, source: own, subject: subject,
            meter: decoded.meter.isAbsent ? "api_calls" : decoded.meter.string,
            quantity: decoded.quantity,
            domain: decoded.domain.isAbsent ? nil : decoded.domain.string,
            feature: decoded.feature.isAbsent ? nil : decoded.feature.string, time: decoded.time)
        )
      }
    }
    if let reason { return reject(reason) }
    if let event { events.append(event) }
  }

  /// `{"accepted":n,"rejected":[{"index":…,"id":…,"reason":…}]}`
  func answer() -> [UInt8] {
    var json = JSONWriter()
    json.beginObject()
    json.member("accepted", Int64(events.count))
    json.name("rejected")
    json.beginArray()
    for one in rejected {
      json.beginObject()
      json.member("index", Int64(one.index))
      json.name("id")
      if let id = one.id { json.text(id) } else { json.null() }
      json.member("reason", one.reason)
      json.endObject()
    }
    json.endArray()
    json.endObject()
    return json.bytes
  }
}
