import Billing
import Metering
import PostgresStore
import Synchronization

/// Sends events that are already stored, and reports the outcome of each.
///
/// Events of one customer and meter are sent one after the other, as Stripe requires. Up to `lanes`
/// of these sequences run at the same time.
struct StripeSender: Sendable {
  let client: StripeClient

  private static let lanes = 16
  /// After this many events in a row without an answer, Stripe counts as unreachable and the others
  /// are not tried.
  private static let mostFailures = 8

  /// Why the remaining events are not tried any more, and how many have failed in a row.
  private final class Course: Sendable {
    private let state = Mutex<(stop: String?, failures: Int)>((nil, 0))

    var stop: String? { state.withLock { $0.stop } }

    func stop(_ why: String) { state.withLock { $0.stop = $0.stop ?? why } }

    func note(isFailure: Bool, _ why: String?) {
      state.withLock { state in
        state.failures = isFailure ? state.failures + 1 : 0
        if state.failures >= StripeSender.mostFailures { state.stop = state.stop ?? why ?? "" }
      }
    }
  }

  struct Outcome: Sendable {
    var results: [StripeEventStore.Result]
    /// Why some were not tried.
    var stop: String?
  }

  /// - Parameter events: events that `beginSending` has marked.
  func send(_ events: [StripeEventStore.Open]) async -> Outcome {
    let course = Course()
    let lanes = Self.lanes(events)
    let results = await withTaskGroup(of: [StripeEventStore.Result].self) { group in
      var next = 0
      func add() {
        guard next < lanes.count else { return }
        let lane = lanes[next]
        next += 1
        group.addTask { await send(lane, course) }
      }
      for _ in 0..<Self.lanes { add() }
      var results: [StripeEventStore.Result] = []
      while let done = await group.next() {
        results += done
        add()
      }
      return results
    }
    return Outcome(results: results, stop: course.stop)
  }

  private static func lanes(_ events: [StripeEventStore.Open]) -> [[StripeEventStore.Open]] {
    var places: [Identifier: Int] = [:]
    var lanes: [[StripeEventStore.Open]] = []
    for event in events {
      let place = Identifier(event.eventName + " " + event.stripeCustomerID)
      if let lane = places[place] {
        lanes[lane].append(event)
      } else {
        places[place] = lanes.count
        lanes.append([event])
      }
    }
    return lanes
  }

  private func send(
    _ lane: [StripeEventStore.Open], _ course: Course
  ) async -> [StripeEventStore.Result] {
    var results: [StripeEventStore.Result] = []
    for event in lane { results.append(await send(event, course)) }
    return results
  }

  /// Tries one event until it has a final answer or may not be tried any more.
  private func send(
    _ event: StripeEventStore.Open, _ course: Course
  ) async -> StripeEventStore.Result {
    guard let form = event.event?.form else {
      return StripeEventStore.Result(identifier: event.identifier, state: .open)
    }
    var isInDoubt = event.doubtSince != nil
    var tries: Int64 = 0
    var error: String?
    func open() -> StripeEventStore.Result {
      StripeEventStore.Result(
        identifier: event.identifier, state: .open, attempts: tries, isInDoubt: isInDoubt,
        error: error)
    }
    while course.stop == nil, !Task.isCancelled {
      tries += 1
      let (verdict, retryAfter) = await attempt(form)
      let mayRetry: Bool
      switch verdict {
      case .accepted:
        course.note(isFailure: false, nil)
        return StripeEventStore.Result(
          identifier: event.identifier, state: .accepted, attempts: tries)
      case .refused(let why):
        course.note(isFailure: false, nil)
        error = why
        // An earlier attempt may have arrived, so the refusal is not final.
        if isInDoubt { return open() }
        return StripeEventStore.Result(
          identifier: event.identifier, state: .refused, attempts: tries, error: why)
      case .locked(let why):
        error = why
        course.stop(why)
        return open()
      case .busy(let retry, let why): (mayRetry, error) = (retry, why)
      case .unknown(let retry, let why):
        (mayRetry, error) = (retry, why)
        isInDoubt = true
      }
      let pause = StripeBackoff.milliseconds(
        tries: Int(tries), pace: client.paceMilliseconds, retryAfterMilliseconds: retryAfter,
        random: Double.random(in: 0...1))
      guard mayRetry, let pause else { break }
      // The sleep ends early if the export is canceled, and the loop ends with it.
      try? await Task.sleep(for: .milliseconds(pause))
    }
    if tries > 0 { course.note(isFailure: true, error) }
    return open()
  }

  private func attempt(_ form: String) async -> (StripeVerdict, Int64?) {
    do {
      let answer = try await client.post("/v1/billing/meter_events", form: form)
      let verdict = StripeVerdict.of(
        status: answer.status, body: answer.body, shouldRetry: answer.shouldRetry)
      return (verdict.map(client.harmless), answer.retryAfterMilliseconds)
    } catch {
      return (.unknown(mayRetry: true, "\(error)"), nil)
    }
  }
}

extension StripeVerdict {
  /// The same verdict with another text.
  fileprivate func map(_ change: (String) -> String) -> StripeVerdict {
    switch self {
    case .accepted: .accepted
    case .refused(let why): .refused(change(why))
    case .locked(let why): .locked(change(why))
    case .busy(let retry, let why): .busy(mayRetry: retry, change(why))
    case .unknown(let retry, let why): .unknown(mayRetry: retry, change(why))
    }
  }
}

extension StripeEventStore.Open {
  /// Nil only if a newer program has stored a mode that this one does not know.
  var event: StripeEvent? {
    StripeMode(rawValue: mode).map { mode in
      StripeEvent(
        customer: customer, meter: meter, hour: hour, revision: revision, mode: mode,
        stripeCustomerID: stripeCustomerID, eventName: eventName, value: value)
    }
  }
}
