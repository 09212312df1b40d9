/// An endpoint's circuit breaker: what its successes and failures make of it.
///
///     closed ──5 failures in a row──► open until T ──T: one probe──► closed (it succeeded)
///                                       ▲                    └─────► open for twice as long, at most 5 min
///     any ──410──► disabled (gone)      any ──only failures for 5 days──► disabled (failing)
///
/// A receiver that names a time by `Retry-After` opens it itself, until then.
///
/// While it is open, deliveries wait and use up no retries; the probe is a delivery like any other.
/// Requests that were under way when it opened may fail much later. They say nothing new, so they
/// do not count: a receiver that hung once with eight requests is probed after ten seconds, not
/// after 80. Times are milliseconds of one clock, the database's.
package struct EndpointHealth: Sendable, Equatable {
  /// One failing deployment of a receiver is a failure or two of each of four connections.
  package static let failuresToOpen = 5
  package static let firstOpenMilliseconds: Int64 = 10_000
  /// A receiver that is back waits at most so long for what it missed.
  package static let maximumOpenMilliseconds: Int64 = 300_000
  package static let disableAfterMilliseconds: Int64 = 5 * 86_400_000
  /// A quiet endpoint's two failures five days apart say nothing about the days between.
  package static let failuresToDisable = 10

  package enum Outcome: Sendable, Equatable {
    case success
    case failure
    /// It asks, by a 429 or 503 with `Retry-After`, to be left alone for so long.
    case paused(milliseconds: Int64)
    /// 410: it says itself that it does not want any more.
    case gone
  }

  /// What one attempt says about the endpoint.
  package struct Report: Sendable, Equatable {
    package var outcome: Outcome
    /// Whether it was claimed as the probe of an open breaker.
    package var isProbe: Bool

    package init(_ outcome: Outcome, isProbe: Bool = false) {
      self.outcome = outcome
      self.isProbe = isProbe
    }
  }

  package enum Action: Sendable, Equatable {
    case none
    case disable(reason: DisabledReason)
  }

  package enum DisabledReason: String, Sendable, CaseIterable {
    case gone
    case failing
    case manual
  }

  package var consecutiveFailures = 0
  package var failingSinceMilliseconds: Int64?
  /// Nothing but a probe at this moment; nil: closed.
  package var openUntilMilliseconds: Int64?

  package init() {}

  package init(
    consecutiveFailures: Int, failingSinceMilliseconds: Int64?, openUntilMilliseconds: Int64?
  ) {
    self.consecutiveFailures = consecutiveFailures
    self.failingSinceMilliseconds = failingSinceMilliseconds
    self.openUntilMilliseconds = openUntilMilliseconds
  }

  package mutating func take(_ report: Report, atMilliseconds now: Int64) -> Action {
    var pause: Int64?
    switch report.outcome {
    case .success:
      self = EndpointHealth()
      return .none
    case .gone:
      return .disable(reason: .gone)
    case .paused(let milliseconds):
      pause = min(max(milliseconds, 0), RetrySchedule.maximumRetryAfterMilliseconds)
    case .failure:
      break
    }
    if openUntilMilliseconds == nil || report.isProbe {
      let action = countFailure(atMilliseconds: now)
      if action != .none { return action }
    }
    if let pause, pause > 0 { openUntilMilliseconds = max(openUntilMilliseconds ?? 0, now + pause) }
    return .none
  }

  private mutating func countFailure(atMilliseconds now: Int64) -> Action {
    let since = failingSinceMilliseconds ?? now
    failingSinceMilliseconds = since
    // The column is a 32-bit integer. Nobody needs so many.
    consecutiveFailures = min(consecutiveFailures + 1, 1_000_000_000)
    if now - since >= Self.disableAfterMilliseconds, consecutiveFailures >= Self.failuresToDisable {
      return .disable(reason: .failing)
    }
    if consecutiveFailures >= Self.failuresToOpen {
      let doublings = min(consecutiveFailures - Self.failuresToOpen, 16)
      let wait = min(Self.firstOpenMilliseconds << Int64(doublings), Self.maximumOpenMilliseconds)
      openUntilMilliseconds = max(openUntilMilliseconds ?? 0, now + wait)
    }
    return .none
  }

  /// Takes a batch of results, in any order. A success among them closes the breaker, because the
  /// endpoint does answer. A pause that the endpoint asks for holds nevertheless.
  package mutating func take(_ reports: [Report], atMilliseconds now: Int64) -> Action {
    if reports.contains(where: { $0.outcome == .gone }) { return .disable(reason: .gone) }
    if let success = reports.first(where: { $0.outcome == .success }) {
      let action = take(success, atMilliseconds: now)
      for report in reports {
        if case .paused = report.outcome { _ = take(report, atMilliseconds: now) }
      }
      return action
    }
    for report in reports {
      let action = take(report, atMilliseconds: now)
      if action != .none { return action }
    }
    return .none
  }
}
