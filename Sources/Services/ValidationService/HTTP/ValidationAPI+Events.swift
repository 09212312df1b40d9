import EventPublisher
import Metering
import NIOHTTP1
import PostgresStore
import ServiceRuntime
import Tracing

/// `POST /v1/events`.
extension ValidationAPI {
  /// The token of a caller who may report events, and its customer.
  func reporter(
    _ fields: RequestFields, _ gathered: Gathered
  ) throws -> (token: AccessStore.TokenRow, customerID: Identifier) {
    guard let token = try authenticate(fields, gathered) else { throw Problem.unauthorized }
    try require(.usageWrite, of: token)
    guard let customer = token.customerID else {
      throw Problem(
        status: .forbidden, code: "no_customer", detail: "The token belongs to no customer.")
    }
    return (token, customer)
  }

  func events(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    let (token, customer) = try reporter(request.fields, gathered)
    let isBatch: Bool?
    // Spaces may stand before the parameters (RFC 9110, section 5.6.6).
    switch request.fields.contentType?.prefix(while: { !"; \t".contains($0) }).lowercased() {
    case "application/cloudevents-batch+json": isBatch = true
    case "application/cloudevents+json": isBatch = false
    case nil, "application/json": isBatch = nil
    default:
      throw Problem(
        status: .unsupportedMediaType, code: "unsupported_media_type",
        detail: "Send application/cloudevents+json or application/cloudevents-batch+json.")
    }
    // Its cost depends on its size, so each KiB that is begun counts as one request.
    try count(gathered) {
      charge(token.tokenID, settings.keyRate, cost: 1 + request.body.count / 1_024)
    }
    let span = RequestSpan(request)
    let reported = try ReportedEvents(
      request.body, isBatch: isBatch, customerID: customer, now: WallClock.milliseconds,
      rules: settings.eventRules, traceparent: span?.traceparent)
    try checkOwner(customer, of: reported.subjects, gathered)
    switch publisher.publish(batch: reported.events) {
    case .accepted:
      span?.end(status: 202) { attributes in
        attributes["license_metering.events"] = SpanAttribute.int64(Int64(reported.events.count))
      }
      return APIAnswer(status: .accepted, type: "application/json", body: reported.answer())
    case .full: throw Problem.unavailable("The spool is full. Nothing was taken. Try again.")
    case .invalid:
      throw Problem.badRequest("bad_request", "An event breaks the contract. Nothing was taken.")
    }
  }

  private func checkOwner(
    _ customer: Identifier, of subjects: Set<Identifier>, _ gathered: Gathered
  ) throws {
    var isUnknown = false
    var missing: [Identifier] = []
    for subject in subjects {
      do {
        switch try license(subject, gathered) {
        case .found(let known) where known.customerID == customer: continue
        case .unavailable: isUnknown = true
        case .found, .missing:
          throw Problem(
            status: .forbidden, code: "not_your_license",
            detail: "A subject is not a license of the token's customer. Nothing was taken.")
        }
      } catch Need.licenses(let ids) {
        missing += ids
      }
    }
    if isUnknown {
      throw Problem.unavailable("The licenses' customers cannot be looked up now. Try again.")
    }
    let next = Self.nextLookups(missing, isFirst: gathered.licenses.isEmpty)
    if !next.isEmpty { throw Need.licenses(next) }
  }

  /// The licenses of a batch that are looked up next. The first one that does not exist refuses the
  /// batch. So a batch of invented ids costs few look-ups, and one of a customer's own licenses
  /// needs only a few rounds.
  static func nextLookups(_ missing: [Identifier], isFirst: Bool) -> [Identifier] {
    Array(missing.prefix(isFirst ? 10 : 200))
  }
}
