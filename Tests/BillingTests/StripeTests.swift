import Billing
import Metering
import Testing

@Suite struct StripeTests {
  private static let now: Int64 = 1_790_000_000
  private static let hour = now / 3_600 * 3_600 - 7_200

  private func hour(
    _ quantity: Int64, stripe: String? = "cus_A", hour: Int64 = StripeTests.hour,
    isShared: Bool = false, known: StripeHour.Known? = nil
  ) -> StripeHour {
    StripeHour(
      customer: "cus_1", meter: "api_calls", hour: hour, quantity: quantity,
      stripeCustomerID: stripe, isShared: isShared, known: known)
  }

  private func known(
    _ status: StripeStatus, accepted: Int64, mode: StripeMode = .sum, isOpen: Bool = false
  ) -> StripeHour.Known {
    StripeHour.Known(
      status: status, mode: mode, stripeCustomerID: "cus_old", eventName: "old", accepted: accepted,
      revision: 3, hasOpenEvent: isOpen)
  }

  private func step(_ hour: StripeHour, mode: StripeMode = .sum) -> StripeHour.Step {
    hour.step(mode: mode, eventName: "calls", now: Self.now)
  }

  private func event(_ hour: StripeHour, mode: StripeMode = .sum) throws -> StripeEvent {
    guard case .send(let event) = step(hour, mode: mode) else {
      throw NoEvent(description: "\(step(hour, mode: mode))")
    }
    return event
  }

  private struct NoEvent: Error, CustomStringConvertible { let description: String }

  @Test func `A new hour is sent whole, and growth goes where the rest of the hour is`() throws {
    let first = try event(hour(42))
    #expect(first.value == 42 && first.revision == 1 && first.stripeCustomerID == "cus_A")
    #expect(first.eventName == "calls" && first.mode == .sum)
    let more = try event(hour(50, known: known(.sent, accepted: 42)), mode: .replace)
    #expect(more.value == 8 && more.revision == 4 && more.mode == .sum)
    #expect(more.stripeCustomerID == "cus_old" && more.eventName == "old")
    let again = try event(hour(50, known: known(.sent, accepted: 42, mode: .replace)))
    #expect(again.value == 50 && again.mode == .replace)
    let less = try event(hour(7, known: known(.sent, accepted: 42, mode: .replace)))
    #expect(less.value == 7)
    // Stripe has nothing of a refused event, so the current settings decide.
    let refused = try event(hour(5, known: known(.refused, accepted: 0)))
    #expect(refused.stripeCustomerID == "cus_A" && refused.eventName == "calls")
  }

  @Test func `What cannot be sent is marked with its reason`() {
    #expect(step(hour(0)) == .nothing)
    #expect(step(hour(42, known: known(.sent, accepted: 42))) == .mark(.sent))
    #expect(step(hour(41, known: known(.sent, accepted: 42))) == .mark(.credit))
    #expect(step(hour(1, stripe: nil)) == .mark(.unlinked))
    #expect(step(hour(999_999_999_999_999)) != .mark(.tooLarge))
    #expect(step(hour(1_000_000_000_000_000)) == .mark(.tooLarge))
    let day: Int64 = 86_400
    #expect(step(hour(1, hour: Self.now - 35 * day)) == .mark(.tooOld))
    #expect(step(hour(1, hour: Self.now - 35 * day + 3_600)) != .mark(.tooOld))
    #expect(step(hour(1, isShared: true), mode: .replace) == .mark(.shared))
    #expect(step(hour(1, isShared: true)) != .mark(.shared))
    // An hour has one event at a time, and none if nobody knows what Stripe has.
    #expect(step(hour(50, known: known(.pending, accepted: 42, isOpen: true))) == .nothing)
    #expect(step(hour(50, known: known(.unsettled, accepted: 42))) == .nothing)
  }

  @Test func `An identifier is the same for the same row and revision, and for no other`() throws {
    let event = try event(hour(42))
    var other = event
    other.value = 43
    other.stripeCustomerID = "cus_B"
    #expect(other.identifier == event.identifier && event.identifier.utf8.count <= 100)
    var all: Set = [event.identifier]
    for change in [
      { $0.revision = 2 }, { $0.hour += 3_600 }, { $0.meter = "reports" }, { $0.eventName = "b" },
      { $0.customer = "cus_1a" }, { ($0.customer, $0.meter) = ("cus_1api", "_calls") },
    ] as [(inout StripeEvent) -> Void] {
      var changed = event
      change(&changed)
      #expect(all.insert(changed.identifier).inserted)
    }
    #expect(
      event.form
        == "event_name=calls&identifier=\(event.identifier)&timestamp=\(Self.hour)"
        + "&payload%5Bstripe_customer_id%5D=cus_A&payload%5Bvalue%5D=42")
  }

  @Test func `An event in doubt is sent again for a day, and then settled`() throws {
    let event = try event(hour(42))
    func errand(_ doubt: Int64?, _ now: Int64) -> StripeEvent.Errand {
      event.errand(doubtSince: doubt, now: now)
    }
    let day: Int64 = 86_400
    #expect(errand(nil, Self.now) == .send && errand(nil, Self.now + 36 * day) == .withdraw)
    #expect(errand(Self.now, Self.now + 23 * 3_600) == .send)
    #expect(errand(Self.now, Self.now + day) == .settle)
    let old = Self.hour + 35 * day
    #expect(errand(old - 60, old) == .wait && errand(old - day, old) == .settle)
  }

  @Test(
    arguments: [
      (200, "{}", nil, StripeVerdict.accepted),
      (400, #"{"error":{"code":"duplicate_meter_event","message":"m"}}"#, nil, .accepted),
      (400, #"{"error":{"message":"An event already exists with identifier x."}}"#, nil, .accepted),
      (
        400, #"{"error":{"message":"Invalid identifier: too long.","param":"identifier"}}"#, nil,
        .refused("Stripe answered 400: Invalid identifier: too long.")
      ),
      (
        400, #"{"error":{"code":"timestamp_too_far_in_past","message":"m"}}"#, nil,
        .refused("Stripe answered 400: timestamp_too_far_in_past: m")
      ),
      (400, "<html>", "true", .busy(mayRetry: true, "Stripe answered 400")),
      (401, "", nil, .locked("Stripe answered 401")),
      (404, "", nil, .refused("Stripe answered 404")),
      (409, "", nil, .busy(mayRetry: true, "Stripe answered 409")),
      (429, "", "false", .busy(mayRetry: false, "Stripe answered 429")),
      (500, "", nil, .unknown(mayRetry: true, "Stripe answered 500")),
      (503, "", "false", .unknown(mayRetry: false, "Stripe answered 503")),
      (302, "", nil, .unknown(mayRetry: false, "Stripe answered 302")),
    ] as [(Int, String, String?, StripeVerdict)])
  func `An answer says whether Stripe has the event`(
    status: Int, body: String, shouldRetry: String?, verdict: StripeVerdict
  ) {
    #expect(
      StripeVerdict.of(status: status, body: Array(body.utf8), shouldRetry: shouldRetry) == verdict)
  }

  @Test func `A message from Stripe is one short line`() {
    let message = String(repeating: "\\u001b[2Jä\\n", count: 500)
    let text = StripeErrorText(
      status: 400, body: Array(#"{"error":{"message":"\#(message)"}}"#.utf8)
    ).text
    #expect(text.utf8.count <= 300 && text.unicodeScalars.allSatisfy { $0.value >= 0x20 })
  }

  @Test func `Pauses grow, and Retry-After is kept where it is not too long`() {
    func pause(_ tries: Int, after: Int64? = nil) -> Int64? {
      StripeBackoff.milliseconds(tries: tries, retryAfterMilliseconds: after, random: 1)
    }
    #expect([1, 2, 3, 4, 5, 6].map { pause($0) } == [500, 1_000, 2_000, 4_000, 8_000, nil])
    #expect(pause(1, after: 30_000) == 30_000 && pause(1, after: 10) == 500)
    #expect(pause(1, after: 3_600_000) == nil)
  }

  @Test func `Stripe's own sum says whether events in doubt have arrived`() {
    func of(_ mode: StripeMode, _ accepted: Int64, _ values: [Int64], _ sum: Int64?)
      -> StripeSettlement
    {
      StripeSettlement.of(mode: mode, accepted: accepted, values: values, stripe: sum)
    }
    #expect(of(.sum, 40, [2], 42) == .arrived && of(.sum, 40, [2], 40) == .lost)
    #expect(of(.sum, 40, [2], 41) == .unclear && of(.sum, 40, [2], nil) == .unclear)
    #expect(of(.sum, 0, [2, 3], 5) == .arrived && of(.sum, 0, [2, 3], 2) == .unclear)
    #expect(of(.replace, 40, [42], 42) == .arrived && of(.replace, 40, [42], 40) == .lost)
  }

  @Test func `Lists from Stripe are read, and anything else is refused`() {
    let page = StripeSummaryPage(
      Array(
        """
        {"data":[{"id":"a","aggregated_value":10.0,"start_time":3600},
          {"id":"b","aggregated_value":1.5,"start_time":0}],"has_more":true}
        """.utf8))
    #expect(page?.hours.map(\.value) == [10, nil] && page?.next == "b")
    for text in ["", "[]", "{}", #"{"data":[{}]}"#, #"{"data":[{"start_time":"x"}]}"#] {
      #expect(StripeSummaryPage(Array(text.utf8)) == nil)
      #expect(StripeMeterPage(Array(text.utf8)) == nil || text.isEmpty)
    }
    let meters = StripeMeterPage(
      Array(
        """
        {"data":[{"id":"m","event_name":"calls","status":"active","event_time_window":"hour",
          "default_aggregation":{"formula":"sum"}},{"id":"n","event_name":"x"}],"has_more":false}
        """.utf8))?.meters
    #expect(meters?[0].problem(.replace) == nil && meters?[0].problem(.sum) != nil)
    // Something that the answer does not say is not a problem.
    #expect(meters?[1].problem(.replace) == nil && meters?[1].problem(.sum) == nil)
  }

  @Test func `Meters and event names are a list of pairs, with each name once`() throws {
    #expect(
      try StripeMeters("api_calls=calls, reports=r").eventNames == [
        "api_calls": "calls", "reports": "r",
      ])
    #expect(try StripeMeters("").meters.isEmpty)
    for text in ["api_calls", "=a", "a=", "A=a", "a=x,a=y", "a=x,b=x", "a=ä", "a=b c"] {
      #expect(throws: StripeMeters.Invalid.self, "\(text)") { try StripeMeters(text) }
    }
  }
}
