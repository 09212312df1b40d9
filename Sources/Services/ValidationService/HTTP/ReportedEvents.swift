import EventCodec
import EventPublisher
import JSONText
import Metering

/// The body of `POST /v1/events`: usage events of a customer. They are checked as the aggregator
/// will check them, so that an accepted event never becomes a dead letter.
///
/// The aggregator compares an event's time with its record's, which is later than the request by
/// the time in the spool, or earlier if the broker's clock is behind. So events that are close to a
/// bound are refused here.
struct ReportedEvents {
  static let maximumBytes = 1 << 20
  static let maximumEvents = 1_000

  /// The limits that come from the aggregator's settings.
  struct Rules: Sendable {
    var maxQuantity = Limits.quantity
    var maxEventAgeMilliseconds = Limits.eventAgeMilliseconds

    /// An event of this age may wait in the spool for an hour, or for a tenth of a shorter bound.
    var oldestMilliseconds: Int64 {
      maxEventAgeMilliseconds - min(3_600_000, maxEventAgeMilliseconds / 10)
    }

    /// The brokers' clocks may be ten seconds behind.
    static let aheadMilliseconds = Limits.aheadMilliseconds - 10_000
  }

  struct Rejected: Sendable, Equatable {
    var index: Int
    var id: String?
    var reason: String
  }

  private(set) var events: [UsageEvent] = []
  private(set) var rejected: [Rejected] = []
  /// The subjects of all events that have one, including rejected events.
  private(set) var subjects: Set<Identifier> = []
  private let traceparent: String?

  /// - Parameters:
  ///   - now: milliseconds since 1970.
  ///   - rules: the aggregator's.
  ///   - traceparent: the request's, for events that have none.
  /// - Throws: `Problem` with status 400.
  init(
    _ body: [UInt8], isBatch: Bool?, customerID: Identifier, now: Int64, rules: Rules = Rules(),
    traceparent: String? = nil
  ) throws {
    self.traceparent = traceparent
    var decoder = EventDecoder(maxQuantity: rules.maxQuantity)
    do {
      guard let ranges = try JSONReader.elements(of: body, atMost: Self.maximumEvents) else {
        let value = try JSONReader.parse(body)
        guard isBatch != true, value.members != nil else { throw Self.form }
        try read(body, value, 0, customerID, now, rules, &decoder)
        return
      }
      if isBatch == false { throw Self.form }
      for (index, range) in ranges.enumerated() {
        let bytes = Array(body[range])
        try read(bytes, try JSONReader.parse(bytes), index, customerID, now, rules, &decoder)
        decoder.reset()
      }
    } catch let error as JSONError where error.reason == .tooManyValues {
      throw Problem.badRequest(
        "too_many_events", "A request may have at most \(Self.maximumEvents) events.")
    } catch let error as JSONError {
      throw Problem.badRequest("not_json", "The body is not JSON: \(error.reason.rawValue).")
    }
  }

  private static let form = Problem.badRequest(
    "bad_request",
    "The body must be one CloudEvent (application/cloudevents+json) or an array of them "
      + "(application/cloudevents-batch+json)."
  )

  private mutating func read(
    _ value: [UInt8], _ parsed: JSONValue, _ index: Int, _ customerID: Identifier, _ now: Int64,
    _ rules: Rules, _ decoder: inout EventDecoder
  ) throws {
    let members = parsed.members ?? []
    try Self.refuseNUL(members)
    let id = members["id"]?.text
    let subject = members["subject"]?.text ?? ""
    if !subject.isEmpty { subjects.insert(Identifier(subject)) }
    func reject(_ reason: RejectionReason) {
      rejected.append(Rejected(index: index, id: id, reason: reason.rawValue))
    }
    // Only the operator may import events that are older than the usual limit.
    if let batch = members["import"], batch != .null { return reject(.badData) }
    guard members["type"]?.text == "license.usage.recorded" else {
      return reject(members["type"] == nil ? .notCloudEvent : .wrongType)
    }
    let key = Array(subject.utf8)
    let (reason, event) = value.withUnsafeBytes { value in
      key.withUnsafeBytes { key -> (RejectionReason?, UsageEvent?) in
        let decoded = decoder.decode(RecordBytes(value: value, key: key, timestamp: -1))
        guard decoded.kind == .usage else { return (decoded.reason, nil) }
        if decoded.time > now + Rules.aheadMilliseconds { return (.tooFarAhead, nil) }
        if decoded.time < now - rules.oldestMilliseconds { return (.tooOld, nil) }
        let own = Self.source(members["source"]?.text ?? "", of: customerID)
        guard own.utf8.count <= Limits.identityBytes else { return (.overSize, nil) }
        return (
          nil,
          UsageEvent(
            id: id, source: own, subject: subject,
            meter: decoded.meter.isAbsent ? "api_calls" : decoded.meter.string,
            quantity: decoded.quantity,
            domain: decoded.domain.isAbsent ? nil : decoded.domain.string,
            feature: decoded.feature.isAbsent ? nil : decoded.feature.string, time: decoded.time,
            traceparent: decoded.traceparent.isAbsent
              ? traceparent : decoded.traceparent.string)
        )
      }
    }
    if let reason { return reject(reason) }
    if let event { events.append(event) }
  }

  /// The source of a customer's event in the log: `/customers/{id}` followed by the sender's own
  /// source.
  ///
  /// Two sources, or two customers, never give the same one, so no event is taken for a duplicate
  /// of another customer's. The id contains no `/` and each `%` of the source becomes `%25`. The
  /// segment `%2E` therefore shows that the source does not begin with `/`.
  static func source(_ source: String, of customer: Identifier) -> String {
    var path = source.utf8.first == UInt8(ascii: "/") ? "" : "/%2E/"
    for scalar in source.unicodeScalars {
      if scalar == "%" { path += "%25" } else { path.unicodeScalars.append(scalar) }
    }
    return "/customers/" + PercentEncoding.segment(customer.string) + path
  }

  private static let identifiers = ["id", "source", "subject", "import", "producer"]
  private static let dataIdentifiers = ["meter", "domain", "feature"]

  /// PostgreSQL cannot store U+0000, so no identifier may contain it.
  private static func refuseNUL(_ members: [JSONMember]) throws {
    func hasNUL(_ members: [JSONMember], _ names: [String]) -> Bool {
      names.contains { name in
        if case .string(let text)? = members[name] { text.bytes.contains(0) } else { false }
      }
    }
    if hasNUL(members, identifiers) || hasNUL(members["data"]?.members ?? [], dataIdentifiers) {
      throw Problem.badRequest(
        "nul_in_text", "An identifier contains U+0000, which cannot be stored. Nothing was taken.")
    }
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
