import Dispatch
import EventPublisher
import HTTPListening
import Licensing
import Metering
import NIOHTTP1
import PostgresStore
import ServiceRuntime
import SystemRandom
import Tracing

/// `POST /v1/licenses/validate`.
extension ValidationAPI {
  func validate(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    let token = try authenticate(request.fields, gathered)
    if settings.requiresKey { try require(.licensesValidate, of: token) }
    let key = try idempotencyKey(request)
    let question = try ValidateRequest(
      request.body, maximumQuantity: settings.eventRules.maxQuantity)
    if question.hasUsage { try require(.usageWrite, of: token) }
    let client = settings.address.resolve(
      request.peer, forwardedFor: request.fields.forwardedFor)
    if let token {
      try count(gathered) { charge(token.tokenID, settings.keyRate) }
    } else {
      try count(gathered) {
        max(
          charge(
            AnonymousKey(license: Identifier(question.licenseKey), client: client.group),
            settings.anonymousRate),
          charge(AddressKey(client: client.group, isForUnknown: false), settings.addressRate))
      }
    }
    let now = WallClock.milliseconds
    let finding = try evaluator.evaluate(
      licenseKey: question.licenseKey, domain: question.domain,
      meter: Identifier(question.meter), customer: token?.customerID, now: now
    ) { id in
      if token == nil { try limitLookups(id, client, gathered) }
      return try license(id, gathered)
    }
    if token == nil, finding.terms == nil { try limitUnknown(client, gathered) }
    if question.hasUsage { try checkOwner(of: finding, token) }
    try checkRepetition(question, finding, key: key, token: token)
    // A stranger who knows only an id does not learn what was sold under it. A signed license says
    // it itself.
    let isTold = finding.verdict.isValid || token != nil || finding.isSigned
    let told = isTold ? finding.terms : nil
    guard
      let answer = ValidateAnswer.make(
        finding.verdict, told, licenseID: finding.licenseID,
        licenseKey: question.licenseKey, domain: finding.domain,
        nonce: question.nonce ?? SystemRandom.hexadecimal(), now: now, signer: signer)
    else { throw Problem.unavailable("The answer cannot be signed now. Try again.") }
    let elapsed = Int64(DispatchTime.now().uptimeNanoseconds - request.received) / 1_000
    let span = RequestSpan(request)
    publish(
      question, finding, key: key, token: token, client: client, sdk: request.fields.userAgent,
      traceparent: span?.traceparent, elapsed: elapsed, now: now)
    span?.end(status: 200) { attributes in
      attributes["license_metering.code"] = SpanAttribute.string(finding.verdict.code.rawValue)
      if let license = finding.licenseID {
        attributes["license_metering.license_id"] = SpanAttribute.string(license.string)
      }
    }
    metrics.judged(finding.verdict.code, microseconds: elapsed)
    return APIAnswer(status: .ok, type: "application/json", body: answer)
  }

  /// Only the license's customer and the vendor may state usage.
  private func checkOwner(of finding: LicenseEvaluator.Finding, _ token: AccessStore.TokenRow?)
    throws
  {
    guard let customer = token?.customerID, finding.customerID != customer,
      finding.verdict.code != .invalidSignature
    else { return }
    if finding.isOwnerUnknown {
      throw Problem.unavailable("The license's customer cannot be looked up now. Try again.")
    }
    throw Problem(
      status: .forbidden, code: "not_your_license",
      detail: "The license does not belong to the token's customer. Nothing was recorded.")
  }

  private func checkRepetition(
    _ question: ValidateRequest, _ finding: LicenseEvaluator.Finding, key: String?,
    token: AccessStore.TokenRow?
  ) throws {
    guard let key, let token, finding.verdict.isValid, let license = finding.licenseID else {
      return
    }
    let isConsistent = idempotencyKeys.isConsistent(
      key, license: license, token: token.tokenID, question.idempotentUsage)
    guard isConsistent else {
      throw Problem(
        status: .unprocessableEntity, code: "idempotency_mismatch",
        detail: "This Idempotency-Key was sent with different usage before. Nothing was recorded.")
    }
  }

  private func publish(
    _ question: ValidateRequest, _ finding: LicenseEvaluator.Finding, key: String?,
    token: AccessStore.TokenRow?, client: ClientAddress.Client, sdk: String?,
    traceparent: String?, elapsed: Int64, now: Int64
  ) {
    // Usage by domain would otherwise have a row for every spelling of a domain.
    let domain = finding.domain?.description ?? question.domain
    // A key that does not verify may name any license. It must not count against that
    // license.
    publisher.publish(
      ValidationEvent(
        source: settings.source, subject: finding.licenseID?.string ?? "(unverified)",
        code: finding.verdict.code.rawValue, isValid: finding.verdict.isValid,
        domain: domain, clientIP: client.text, sdk: sdk, duration: elapsed, time: now,
        traceparent: traceparent))
    guard finding.verdict.isValid, question.quantity > 0, let license = finding.licenseID else {
      return
    }
    // A retry may reach another instance. The license, the caller's name, the key and the usage
    // alone must therefore identify what it repeats.
    publisher.publish(
      UsageEvent(
        id: key.map { IdempotencyKeys.eventID($0, question.idempotentUsage) },
        source: key == nil ? settings.source : "/validation/" + (token?.tokenID ?? "anonymous"),
        subject: license.string, meter: question.meter, quantity: question.quantity,
        domain: domain, time: now, traceparent: traceparent))
  }

  private func idempotencyKey(_ request: APIRequest) throws -> String? {
    guard let key = request.fields.idempotencyKey else { return nil }
    guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw Problem.badRequest(
        "bad_idempotency_key", "Idempotency-Key must be 1 to 255 printable ASCII characters.")
    }
    return key
  }
}
