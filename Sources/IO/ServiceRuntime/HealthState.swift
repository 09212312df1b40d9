package import Logging
import Synchronization

/// The health of the service's parts, for `GET /health/ready`.
///
/// A component is a fixed word of the program (`kafka`, `postgres`, `startup`). A reason is one
/// sentence for an operator. It must contain no secret, because the admin address answers anyone. A
/// service that is not ready at the start reports that before it runs.
///
/// Reports contain only what a thread has noticed. A thread that stands still notices nothing, so
/// each thread also has a `Heartbeat`.
package final class HealthState: Sendable {
  private struct State {
    var problems: [String: String] = [:]
    var degradations: [String: String] = [:]
    /// The reason that was last logged for each component, and when.
    var logged: [String: (reason: String?, at: Int)] = [:]
    /// Heartbeats by the thread's name.
    var heartbeats: [String: Heartbeat] = [:]
  }

  /// A component whose reason keeps changing is logged at most this often.
  private static let logMilliseconds = 30_000

  private let state = Mutex(State())

  private let logger: Logger?
  private let threadPatienceMilliseconds: Int

  /// - Parameters:
  ///   - logger: gets one line when a problem begins and one when it ends.
  ///   - threadPatienceMilliseconds: how long a thread may stand still; `METER_THREAD_PATIENCE`.
  package init(logger: Logger? = nil, threadPatienceMilliseconds: Int = 300_000) {
    self.logger = logger
    self.threadPatienceMilliseconds = threadPatienceMilliseconds
  }

  // MARK: Threads

  /// Makes the heartbeat of a thread that is about to start. It replaces an earlier one with the
  /// same name, whose thread has ended or was given up.
  ///
  /// - Parameter times: multiplies the patience, for a thread whose statements may take longer than
  ///   others.
  package func heartbeat(
    _ name: String, _ importance: Heartbeat.Importance = .vital, times: Int = 1
  ) -> Heartbeat {
    let made = Heartbeat(
      name, importance, limitMilliseconds: threadPatienceMilliseconds * times)
    made.beat()
    state.withLock { $0.heartbeats[name] = made }
    return made
  }

  /// How long each thread has given no sign of life, by name; 0 while it rests.
  package var silences: [(thread: String, milliseconds: Int)] {
    let now = Monotonic.milliseconds
    return state.withLock { state in
      state.heartbeats.values.map { ($0.name, $0.silentMilliseconds(at: now)) }
    }
  }

  /// A sentence for each thread that stands still.
  private func standstills(_ importance: Heartbeat.Importance) -> [String: String] {
    let now = Monotonic.milliseconds
    let all = state.withLock { Array($0.heartbeats.values) }
    var found: [String: String] = [:]
    for one in all where one.importance == importance {
      let silence = one.silentMilliseconds(at: now)
      guard silence > one.limitMilliseconds else { continue }
      found["thread \(one.name)"] =
        "it has not moved for \(silence / 1_000) s, and the limit is "
        + "\(one.limitMilliseconds / 1_000) s"
    }
    return found
  }

  /// The number of threads that stand still.
  package var standstillCount: Int { standstills(.vital).count + standstills(.helpful).count }

  /// Logs threads that stand still, in case nobody asks for the health. Called every few seconds.
  func logStandstills() {
    let all = state.withLock { Array($0.heartbeats.values.map(\.name)) }
    let found = standstills(.vital).merging(standstills(.helpful)) { $1 }
    for component in all.map({ "thread \($0)" }) {
      let news = state.withLock { Self.news(component, found[component], &$0) }
      log(news, component, found[component])
    }
  }

  // MARK: Reports

  /// Reports that the service cannot do its job because of `component`, so it is not ready. Nil
  /// clears the problem.
  ///
  /// - Parameter logs: false if the caller logs the problem itself, or if nothing is wrong (a start
  ///   or an end).
  package func report(_ component: String, problem: String?, logs: Bool = true) {
    let news = state.withLock { state in
      state.problems[component] = problem
      return logs ? Self.news(component, problem, &state) : nil
    }
    log(news, component, problem)
  }

  /// What to log for a component; nil for nothing.
  private static func news(
    _ component: String, _ reason: String?, _ state: inout State
  ) -> Logger.Message? {
    let last = state.logged[component]
    guard last?.reason != reason else { return nil }
    let now = Monotonic.milliseconds
    if let last, last.reason != nil, reason != nil, now - last.at < Self.logMilliseconds {
      return nil
    }
    state.logged[component] = (reason, now)
    if reason != nil { return "a component has a problem" }
    return last == nil ? nil : "a component works again"
  }

  private func log(_ news: Logger.Message?, _ component: String, _ reason: String?) {
    guard let logger, let news else { return }
    var metadata: Logger.Metadata = ["component": "\(component)"]
    if let reason { metadata["reason"] = "\(reason)" }
    logger.log(level: reason == nil ? .info : .warning, news, metadata: metadata)
  }

  /// Reports that the service does its job with less than it should have: it is ready and
  /// `"degraded"`. Nil clears the problem. This is kept apart from `report`. If both are set, the
  /// reason of `report` is shown.
  package func degraded(_ component: String, problem: String?, logs: Bool = true) {
    let news = state.withLock { state in
      state.degradations[component] = problem
      return logs ? Self.news("\(component) (degraded)", problem, &state) : nil
    }
    log(news, component, problem)
  }

  // MARK: Answers

  /// True if no component has a problem (other than being degraded) and no vital thread stands
  /// still.
  package var isReady: Bool {
    state.withLock { $0.problems.isEmpty } && standstills(.vital).isEmpty
  }

  /// True if a component works with less than it should have.
  package var isDegraded: Bool {
    state.withLock { !$0.degradations.isEmpty } || !standstills(.helpful).isEmpty
  }

  /// The answer of `/health/live`: 200 and `{"status":"live"}`, or 503 and
  /// `{"status":"stalled","problems":{"thread NAME":"reason"}}`. Only a new process helps against
  /// the latter.
  package func liveJSON() -> (status: Int, body: String) {
    let found = standstills(.vital)
    if found.isEmpty { return (200, #"{"status":"live"}"#) }
    return (503, Self.body("stalled", found))
  }

  /// The answer of `/health/ready`: 200 or 503, and
  /// `{"status":"ready"|"degraded"|"unavailable","problems":{"component":"reason"}}`, with the
  /// problems sorted by name.
  package func json() -> (status: Int, body: String) {
    let state = state.withLock { $0 }
    let problems = state.problems.merging(standstills(.vital)) { $1 }
    let degradations = state.degradations.merging(standstills(.helpful)) { $1 }
    let status: String
    if !problems.isEmpty {
      status = "unavailable"
    } else {
      status = degradations.isEmpty ? "ready" : "degraded"
    }
    return (
      problems.isEmpty ? 200 : 503, Self.body(status, degradations.merging(problems) { $1 })
    )
  }

  private static func body(_ status: String, _ problems: [String: String]) -> String {
    var body = "{\"status\":\"\(status)\",\"problems\":{"
    for (index, entry) in problems.sorted(by: { $0.key < $1.key }).enumerated() {
      if index > 0 { body.append(",") }
      LineText.appendJSON(entry.key, to: &body)
      body.append(":")
      LineText.appendJSON(entry.value, to: &body)
    }
    body.append("}}")
    return body
  }
}
