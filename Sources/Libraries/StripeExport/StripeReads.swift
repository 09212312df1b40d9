import Billing

/// Reads Stripe's meters and its sums by hour.
struct StripeReads: Sendable {
  let client: StripeClient

  /// The largest number of pages of one list, in case a server says `has_more` for ever.
  private static let mostPages = 1_000

  enum Failure: Error, CustomStringConvertible {
    case forbidden(String)
    case notThere(String)
    case failed(String)

    var description: String {
      switch self {
      case .forbidden(let why), .notThere(let why), .failed(let why): why
      }
    }
  }

  /// Meters by event name.
  func meters() async throws -> [String: StripeMeterPage.Meter] {
    var meters: [String: StripeMeterPage.Meter] = [:]
    var after: String?
    for _ in 0..<Self.mostPages {
      let body = try await get("/v1/billing/meters", [("limit", "100")], after: after)
      guard let page = StripeMeterPage(body) else {
        throw Failure.failed("Stripe's list of meters cannot be read")
      }
      for meter in page.meters {
        // An inactive meter may have had the name before an active one.
        if meters[meter.eventName]?.isActive != true { meters[meter.eventName] = meter }
      }
      guard let next = page.next else { return meters }
      after = next
    }
    throw Failure.failed("Stripe's list of meters does not end")
  }

  /// The sums by hour. An hour for which Stripe has nothing is absent. Nil stands for a sum that is
  /// not a whole number. The result is empty for a customer that Stripe does not know.
  ///
  /// - Parameters:
  ///   - first, end: a half-open range of whole hours in seconds since 1970.
  func sums(
    meter: String, customer: String, first: Int64, end: Int64
  ) async throws -> [Int64: Int64?] {
    var sums: [Int64: Int64?] = [:]
    var after: String?
    for _ in 0..<Self.mostPages {
      let body: [UInt8]
      do {
        body = try await get(
          "/v1/billing/meters/\(FormText.encode(meter))/event_summaries",
          [
            ("customer", customer), ("start_time", String(first)), ("end_time", String(end)),
            ("value_grouping_window", "hour"), ("limit", "100"),
          ], after: after)
      } catch Failure.notThere {
        return [:]
      }
      guard let page = StripeSummaryPage(body) else {
        throw Failure.failed("Stripe's event summaries cannot be read")
      }
      for hour in page.hours where hour.hour >= first && hour.hour < end {
        sums.updateValue(hour.value, forKey: hour.hour)
      }
      guard let next = page.next else { return sums }
      after = next
    }
    throw Failure.failed("Stripe's event summaries do not end")
  }

  /// A read may be repeated any number of times.
  private func get(
    _ path: String, _ query: [(String, String)], after: String?
  ) async throws -> [UInt8] {
    let query = query + (after.map { [("starting_after", $0)] } ?? [])
    var tries = 0
    while true {
      tries += 1
      var (why, retryAfter, mayRetry): (String, Int64?, Bool)
      do {
        let answer = try await client.get(path, query)
        if answer.status == 200 { return answer.body }
        why = client.harmless(StripeErrorText(status: answer.status, body: answer.body).text)
        if answer.status == 403 { throw Failure.forbidden(why) }
        if answer.status == 404 { throw Failure.notThere(why) }
        retryAfter = answer.retryAfterMilliseconds
        mayRetry = [409, 429].contains(answer.status) || answer.status >= 500
        if let told = answer.shouldRetry { mayRetry = told == "true" }
      } catch let error as StripeClient.Unreachable {
        (why, retryAfter, mayRetry) = ("\(error)", nil, true)
      }
      let pause = StripeBackoff.milliseconds(
        tries: tries, pace: client.paceMilliseconds, retryAfterMilliseconds: retryAfter,
        random: Double.random(in: 0...1))
      guard mayRetry, let pause else { throw Failure.failed(why) }
      try await Task.sleep(for: .milliseconds(pause))
    }
  }
}
