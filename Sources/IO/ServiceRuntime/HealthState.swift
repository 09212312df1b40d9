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
  }

  private let state = Mutex(State())

  package init() {}

  /// The service cannot do its job because of `component`: not ready. Nil: it is fine again.
  package func report(_ component: String, problem: String?) {
    state.withLock { $0.problems[component] = problem }
  }

  /// The service does its job with less than it should have: ready and `"degraded"`. Nil: fine
  /// again. Kept apart from `report`; where both are set, the reason of `report` is shown.
  package func degraded(_ component: String, problem: String?) {
    state.withLock { $0.degradations[component] = problem }
  }

  /// True while no component has a problem, degraded or not.
  package var isReady: Bool { state.withLock { $0.problems.isEmpty } }

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
