import Foundation

/// How many file descriptors the process may open, and how they are shared.
///
/// libdispatch ends a process that has no descriptor left: its monitor of threads opens files of
/// `/proc` and traps if it cannot. Therefore everything that an outsider can make a process open is
/// bounded. A reserve is kept for what the process opens by itself: files of the spool, connections
/// to PostgreSQL and to brokers, and libdispatch's own files.
package struct DescriptorBudget: Sendable, Equatable {
  /// The soft limit, `RLIMIT_NOFILE`.
  package let limit: Int
  /// The number that is open now.
  package let open: Int

  package init(limit: Int, open: Int) {
    self.limit = limit
    self.open = open
  }

  /// The system's current numbers.
  package static func current() -> DescriptorBudget {
    var limits = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0 else {
      return DescriptorBudget(limit: 1_024, open: 64)
    }
    return DescriptorBudget(
      limit: Int(clamping: min(limits.rlim_cur, limits.rlim_max)),
      open: ProcessMetrics.openDescriptors() ?? 64)
  }

  /// The most connections of the admin address.
  package var adminConnections: Int { max(2, min(64, limit / 16)) }

  /// Descriptors that connections never get, in addition to those that are open already.
  package var reserve: Int { max(32, min(512, limit / 8)) }

  /// The most connections of an API's address; 0 or less if the limit is too low.
  package var apiConnections: Int { limit - open - reserve - adminConnections }

  /// Raises the soft limit to the hard one. The usual soft limit of 1,024 is meant for programs
  /// that use select(), which no service does.
  static func raiseLimit() {
    var limits = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0 else { return }
    let wanted = min(limits.rlim_max, 1_048_576)
    guard limits.rlim_cur < wanted else { return }
    limits.rlim_cur = wanted
    // If the system refuses this, the limit stays as it was, and the budget follows it.
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits)
  }
}
