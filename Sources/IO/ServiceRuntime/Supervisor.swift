import Foundation
import Logging
import ServiceLifecycle
import Synchronization

/// Runs the services of one process and decides its exit status.
final class Supervisor: Sendable {
  /// Services promise to exit within 10 s of SIGTERM. Cancellation needs some of that, and the last
  /// half second is for a loaded machine.
  static let gracefulSeconds = 8
  static let deadlineMilliseconds = 9_500

  private enum Phase {
    case starting
    case running(ServiceGroup)
    case stopping
  }

  private struct State {
    var phase = Phase.starting
    var logger: Logger?
    /// Set by the first failure that stopping did not cause.
    var failureCode: Int32?
  }

  private let service: String
  private let state = Mutex(State())

  init(service: String) {
    self.service = service
  }

  /// 78 is `EX_CONFIG` of sysexits.h.
  static func exitCode(for error: any Error) -> Int32 {
    error is ConfigurationError ? 78 : 1
  }

  /// Runs until all services have ended. Returns the exit status.
  func run(_ composition: ServiceMain.Composition) async -> Int32 {
    // A group stops its services in reverse order, so the admin server stops last.
    var services: [any Service] = composition.services
    if let admin = composition.admin { services.insert(admin, at: 0) }
    guard !services.isEmpty else {
      composition.logger.critical("no services to run")
      return 1
    }
    var configuration = ServiceGroupConfiguration(
      services: services.map {
        ServiceGroupConfiguration.ServiceConfiguration(
          service: SupervisedService(base: $0, supervisor: self),
          successTerminationBehavior: .gracefullyShutdownGroup,
          failureTerminationBehavior: .gracefullyShutdownGroup,
          serviceName: "\(type(of: $0))")
      }, logger: composition.logger)
    configuration.maximumGracefulShutdownDuration = .seconds(Self.gracefulSeconds)
    let group = ServiceGroup(configuration: configuration)
    state.withLock {
      $0.phase = .running(group)
      $0.logger = composition.logger
    }
    do {
      try await group.run()
    } catch {
      // Every failure of a service was already seen and logged by its `SupervisedService`.
    }
    let code = state.withLock { $0.failureCode } ?? 0
    if code == 0 { composition.logger.info("stopped") }
    return code
  }

  /// SIGTERM or SIGINT. A second signal changes nothing, because the flush in progress is worth its
  /// seconds.
  func signalled(_ number: Int32) {
    let before = state.withLock { state in
      defer { if case .running = state.phase { state.phase = .stopping } }
      return (phase: state.phase, logger: state.logger)
    }
    switch before.phase {
    case .starting:
      // No work has begun yet. The server rolls back an open transaction.
      _exit(0)
    case .running(let group):
      armDeadline(code: 0)
      before.logger?.info(
        "stopping", metadata: ["signal": "\(number == SIGTERM ? "SIGTERM" : "SIGINT")"])
      Task { await group.triggerGracefulShutdown() }
    case .stopping:
      break
    }
  }

  /// A service's `run()` threw, or returned without being asked to.
  fileprivate func ended(_ name: String, _ error: any Error) {
    let (isFirst, logger) = state.withLock { state -> (Bool, Logger?) in
      guard case .running = state.phase else { return (false, state.logger) }
      state.phase = .stopping
      state.failureCode = Self.exitCode(for: error)
      return (true, state.logger)
    }
    if isFirst {
      logger?.critical("\(error)", metadata: ["failed": "\(name)"])
      armDeadline(code: Self.exitCode(for: error))
    } else if !(error is CancellationError) {
      logger?.error("\(error)", metadata: ["failed": "\(name)", "while": "stopping"])
    }
  }

  fileprivate var isStopping: Bool {
    state.withLock {
      if case .stopping = $0.phase { true } else { false }
    }
  }

  /// Ends the process whatever its services do. It uses `_exit`, because `exit` runs C destructors,
  /// which may wait for the very threads that are stuck.
  private func armDeadline(code: Int32) {
    let logger = state.withLock { $0.logger }
    DispatchQueue(label: "license-metering.deadline").asyncAfter(
      deadline: .now() + .milliseconds(Self.deadlineMilliseconds)
    ) {
      logger?.error("the services did not stop in time; exiting")
      _exit(code)
    }
  }
}

/// A service as the group sees it. It tells the supervisor how it ended, and waits for its turn to
/// end.
private struct SupervisedService: Service {
  struct EndedUnasked: Error, CustomStringConvertible {
    let description = "the service ended without having been asked to"
  }

  let base: any Service
  let supervisor: Supervisor

  func run() async throws {
    do {
      try await base.run()
      if !supervisor.isStopping { throw EndedUnasked() }
    } catch {
      supervisor.ended("\(type(of: base))", error)
      throw error
    }
    // A group cancels all other services if one returns before its turn to stop, which would cut
    // short their flush. The error is a cancellation, and the wait is over as well.
    try? await gracefulShutdown()
  }
}
