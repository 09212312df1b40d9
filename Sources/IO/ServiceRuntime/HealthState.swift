package import Logging
import Synchronization

/// What the service's parts say about themselves, for `GET /health/ready`.
///
/// A component is a fixed word of the program (`kafka`, `postgres`, `startup`). A reason is one
/// sentence for an operator; it must hold no secret, because the admin address answers anyone.
/// A service that is not ready from the start reports so before it runs.
package final class HealthState: Sendable {
  private struct State {
    var problems: [String: String] = [:]
    var degradations: [String: String] = [:]
    /// What was logged last of each component, and when.
    var logged: [String: (reason: String?, at: Int)] = [:]
  }

  /// A component whose reason changes all the time is logged this often at most.
  private static let logMilliseconds = 30_000

  private let state = Mutex(State())

  private let logger: Logger?

  /// - Parameter logger: is told once when something begins to be wrong, and when it ends.
  package init(logger: Logger? = nil) { self.logger = logger }

  /// The service cannot do its job because of `component`: not ready. Nil: it is fine again.
  ///
  /// - Parameter logs: false where the caller logs it itself, or where nothing is wrong (a start or
  ///   an end).
  package func report(_ component: String, problem: String?, logs: Bool = true) {
    let news = state.withLock { state in
      state.problems[component] = problem
      return logs ? Self.news(component, problem, &state) : nil
    }
    log(news, component, problem)
  }

  /// What to log of a component: nil is nothing.
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
    if reason != nil { return "something is wrong" }
    return last == nil ? nil : "all is well again"
  }

  private func log(_ news: Logger.Message?, _ component: String, _ reason: String?) {
    guard let logger, let news else { return }
    var metadata: Logger.Metadata = ["component": "\(component)"]
    if let reason { metadata["reason"] = "\(reason)" }
    logger.log(level: reason == nil ? .info : .warning, news, metadata: metadata)
  }

  /// The service does its job with less than it should have: ready and `"degraded"`. Nil: fine
  /// again. Kept apart from `report`; where both are set, the reason of `report` is shown.
  package func degraded(_ component: String, problem: String?, logs: Bool = true) {
    let news = state.withLock { state in
      state.degradations[component] = problem
      return logs ? Self.news("\(component) (degraded)", problem, &state) : nil
    }
    log(news, component, problem)
  }

  /// True while no component has a problem, degraded or not.
  package var isReady: Bool { state.withLock { $0.problems.isEmpty } }

  /// True while a component works with less than it should have.
  package var isDegraded: Bool { state.withLock { !$0.degradations.isEmpty } }

  /// The answer of `/health/ready`: 200 or 503, and
  /// `{"status":"ready"|"degraded"|"unavailable","problems":{"component":"reason"}}`, the problems
  /// by name.
  package func json() -> (status: Int, body: String) {
    let state = state.withLock { $0 }
    let status: String
    if !state.problems.isEmpty {
      status = "unavailable"
    } else {
      status = state.degradations.isEmpty ? "ready" : "degraded"
    }
    var body = "{\"status\":\"\(status)\",\"problems\":{"
    let all = state.degradations.merging(state.problems) { $1 }
    for (index, entry) in all.sorted(by: { $0.key < $1.key }).enumerated() {
      if index > 0 { body.append(",") }
      LineText.appendJSON(entry.key, to: &body)
      body.append(":")
      LineText.appendJSON(entry.value, to: &body)
    }
    body.append("}}")
    return (state.problems.isEmpty ? 200 : 503, body)
  }
}
