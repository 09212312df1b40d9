/// Decides which claimed deliveries may begin, so that no endpoint holds up another.
///
/// - An endpoint has at most `perEndpoint` requests at the same time. An endpoint that has never
///   answered, or whose last answer was a failure, has at most one.
/// - Requests begin on one of `fastSlots`. A request that takes longer than `slowAfterMilliseconds`
///   moves to one of `slowSlots`. So do all requests to an endpoint that was that slow last time.
///   So endpoints that hang compete for slow slots, and hold a fast slot for a second at most.
/// - Endpoints take turns. The deliveries of one endpoint begin in the order of the claims.
/// - The number of deliveries that wait is bounded, because only as many are claimed as `rooms()`
///   and `capacity` allow.
///
/// Times are milliseconds of any monotonic clock. `tick` is O(requests under way), and `next` is
/// O(endpoints waiting). All other operations are O(1).
package struct DeliveryScheduler<Work: Sendable>: Sendable {
  package struct Limits: Sendable {
    package var fastSlots = 512
    package var slowSlots = 1_024
    package var perEndpoint = 4
    package var slowAfterMilliseconds: Int64 = 1_000
    /// Deliveries are claimed ahead for this much time of an endpoint. Its latency tells how many
    /// those are.
    package var aheadMilliseconds: Int64 = 500
    package var maximumAhead = 256
    /// The largest number of deliveries of all endpoints that are claimed and have not begun.
    package var maximumWaiting = 2_048

    package init() {}
  }

  private struct Endpoint {
    var waiting: [Work] = []
    var taken = 0
    var underway = 0
    /// The exponentially weighted latency of the last answers. Nil if there was none yet.
    var latencyMilliseconds: Double?
    var isSlow = false
    /// The failures in a row that this process saw.
    var failures = 0
    /// The number of failures that are not stored yet.
    var holds = 0
    var isQueued = false

    var waitingCount: Int { waiting.count - taken }
  }

  private struct Request {
    let endpoint: String
    let began: Int64
    var isSlow: Bool
  }

  private let limits: Limits
  private var endpoints: [String: Endpoint] = [:]
  private var turns: [String] = []
  private var requests: [Int64: Request] = [:]
  private var fastUnderway = 0
  private var slowUnderway = 0
  private var waitingTotal = 0
  private var nextRequest: Int64 = 1

  package init(limits: Limits = Limits()) { self.limits = limits }

  package var underway: Int { requests.count }
  package var waiting: Int { waitingTotal }

  /// How many more deliveries may be claimed for all endpoints together.
  package var capacity: Int { max(0, limits.maximumWaiting - waitingTotal) }

  /// How many deliveries may be claimed for an endpoint that `rooms()` does not name.
  package var defaultRoom: Int { limits.perEndpoint }

  /// How many deliveries may be claimed for each endpoint that is known here.
  package func rooms() -> [(endpoint: String, room: Int)] {
    endpoints.map { ($0.key, room($0.value)) }
  }

  private func room(_ endpoint: Endpoint) -> Int {
    guard let latency = endpoint.latencyMilliseconds, !endpoint.isSlow, endpoint.failures == 0,
      endpoint.holds == 0
    else { return max(0, most(endpoint) - endpoint.underway - endpoint.waitingCount) }
    let ahead = Double(limits.perEndpoint * Int(limits.aheadMilliseconds)) / max(latency, 0.5)
    let most = min(max(Int(min(ahead, 1e6)), limits.perEndpoint), limits.maximumAhead)
    return max(0, most - endpoint.waitingCount)
  }

  private func most(_ endpoint: Endpoint) -> Int {
    if endpoint.holds > 0 { return 0 }
    return endpoint.latencyMilliseconds == nil || endpoint.failures > 0 ? 1 : limits.perEndpoint
  }

  /// Stops deliveries to the endpoint from being begun or claimed. It takes as many calls of
  /// `resume` to undo this.
  ///
  /// A failure may open the endpoint's breaker, which all processes read from the database. Until
  /// the failure is stored there, a claim would return the same deliveries again.
  package mutating func hold(endpoint name: String) {
    endpoints[name, default: Endpoint()].holds += 1
  }

  package mutating func resume(endpoint name: String) {
    guard let holds = endpoints[name]?.holds, holds > 0 else { return }
    endpoints[name]?.holds = holds - 1
    if holds == 1 { enqueue(name) }
  }

  package mutating func add(_ work: Work, endpoint name: String) {
    endpoints[name, default: Endpoint()].waiting.append(work)
    waitingTotal += 1
    enqueue(name)
  }

  private mutating func enqueue(_ name: String) {
    guard let endpoint = endpoints[name], !endpoint.isQueued, endpoint.waitingCount > 0 else {
      return
    }
    endpoints[name]?.isQueued = true
    turns.append(name)
  }

  /// The deliveries that may begin now. `finished` is called later with the number of the request.
  package mutating func next(now: Int64) -> [(request: Int64, work: Work)] {
    var begun: [(request: Int64, work: Work)] = []
    var turn = turns
    while !turn.isEmpty {
      var again: [String] = []
      for name in turn where begin(name, now, &begun) { again.append(name) }
      turn = again
    }
    turns = turns.filter { name in
      let isWaiting = (endpoints[name]?.waitingCount ?? 0) > 0
      if !isWaiting { endpoints[name]?.isQueued = false }
      return isWaiting
    }
    // The next round begins after the endpoint that was served first.
    if turns.count > 1 { turns.append(turns.removeFirst()) }
    return begun
  }

  /// Begins one delivery of the endpoint if it may. Returns true if another one may be tried.
  private mutating func begin(
    _ name: String, _ now: Int64, _ begun: inout [(request: Int64, work: Work)]
  ) -> Bool {
    guard var endpoint = endpoints[name], endpoint.waitingCount > 0 else { return false }
    guard endpoint.underway < most(endpoint) else { return false }
    guard endpoint.isSlow ? slowUnderway < limits.slowSlots : fastUnderway < limits.fastSlots else {
      return false
    }
    let work = endpoint.waiting[endpoint.taken]
    endpoint.taken += 1
    if endpoint.taken == endpoint.waiting.count || endpoint.taken > 256 {
      endpoint.waiting.removeFirst(endpoint.taken)
      endpoint.taken = 0
    }
    endpoint.underway += 1
    if endpoint.isSlow { slowUnderway += 1 } else { fastUnderway += 1 }
    requests[nextRequest] = Request(endpoint: name, began: now, isSlow: endpoint.isSlow)
    begun.append((nextRequest, work))
    nextRequest += 1
    waitingTotal -= 1
    endpoints[name] = endpoint
    return true
  }

  /// Ends a request, and returns how many requests of its endpoint have failed in a row.
  ///
  /// - Parameter failed: whether the request failed. Nil if nothing was tried, which says nothing
  ///   about the endpoint.
  @discardableResult
  package mutating func finished(_ number: Int64, now: Int64, failed: Bool? = false) -> Int {
    guard let request = requests.removeValue(forKey: number) else { return 0 }
    if request.isSlow { slowUnderway -= 1 } else { fastUnderway -= 1 }
    guard var endpoint = endpoints[request.endpoint] else { return 0 }
    endpoint.underway -= 1
    guard let failed else {
      endpoints[request.endpoint] = endpoint
      enqueue(request.endpoint)
      return endpoint.failures
    }
    endpoint.failures = failed ? endpoint.failures + 1 : 0
    let took = Double(max(0, now - request.began))
    endpoint.latencyMilliseconds =
      endpoint.latencyMilliseconds.map { $0 * 0.8 + took * 0.2 } ?? took
    endpoint.isSlow = now - request.began >= limits.slowAfterMilliseconds
    endpoints[request.endpoint] = endpoint
    enqueue(request.endpoint)
    return endpoint.failures
  }

  /// Moves requests that take long to the slow slots. If those are full, a request keeps its fast
  /// slot until its own time limit ends it.
  package mutating func tick(now: Int64) {
    for (number, request) in requests
    where !request.isSlow && now - request.began >= limits.slowAfterMilliseconds {
      endpoints[request.endpoint]?.isSlow = true
      guard slowUnderway < limits.slowSlots else { continue }
      requests[number]?.isSlow = true
      fastUnderway -= 1
      slowUnderway += 1
    }
  }

  /// Removes the deliveries that wait for an endpoint, because its breaker has opened.
  package mutating func withdraw(endpoint name: String) -> [Work] {
    guard var endpoint = endpoints[name] else { return [] }
    let work = Array(endpoint.waiting[endpoint.taken...])
    endpoint.waiting = []
    endpoint.taken = 0
    waitingTotal -= work.count
    endpoints[name] = endpoint
    return work
  }

  /// Removes all deliveries that have not begun.
  package mutating func withdrawAll() -> [Work] {
    endpoints.keys.sorted().flatMap { withdraw(endpoint: $0) }
  }

  /// Forgets endpoints without deliveries if more than `most` are known.
  package mutating func forgetIdle(keeping most: Int) {
    guard endpoints.count > most else { return }
    endpoints = endpoints.filter {
      $0.value.underway > 0 || $0.value.waitingCount > 0 || $0.value.isQueued || $0.value.holds > 0
    }
  }
}
