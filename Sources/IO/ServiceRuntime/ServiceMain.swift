import Foundation
package import Logging
package import ServiceLifecycle

/// The main function of every service.
///
/// Exit status: 0 after SIGTERM or SIGINT, 78 for a `ConfigurationError`, 1 for any other failure.
package enum ServiceMain {
  /// The parts of a service, once its settings are read.
  package struct Composition: Sendable {
    let services: [any Service]
    let admin: AdminServer?
    let logger: Logger

    /// - Parameter services: in the order of dependence. They are shut down one after the other,
    ///   the last first. The admin server outlives them all, so that a slow flush can be watched.
    package init(services: [any Service], admin: AdminServer?, logger: Logger) {
      self.services = services
      self.admin = admin
      self.logger = logger
    }
  }

  /// Sets up logging, lets `body` compose the service, and runs it until a signal or a failure.
  ///
  /// - An error of `body` is printed as one line, `service: message`, on standard error. An error
  ///   of a running service is logged as one `critical` line. Nothing follows either of them.
  /// - A service whose `run()` returns before it was asked to has failed.
  /// - A signal begins the graceful shutdown. Cancellation follows after 8 s, and after 9.5 s the
  ///   process exits in any case. A service that fails while it stops is logged, and the status is
  ///   still 0: what was not flushed was not committed either, and is read again.
  /// - A signal while `body` runs ends the process immediately.
  package static func run(
    service: String, _ body: @Sendable (Settings) async throws -> Composition
  ) async -> Never {
    // If a peer hangs up, the write fails. The process must not end.
    signal(SIGPIPE, SIG_IGN)
    DescriptorBudget.raiseLimit()
    let supervisor = Supervisor(service: service)
    let signals = await SignalTrap.install([SIGTERM, SIGINT]) { supervisor.signalled($0) }
    let composition: Composition
    do {
      let settings = Settings()
      try settings.checkNames()
      try Logs.bootstrap(service: service, settings: settings)
      composition = try await body(settings)
    } catch {
      StandardError.write(LineText.singleLine("\(service): \(error)") + "\n")
      exit(Supervisor.exitCode(for: error))
    }
    let code = await supervisor.run(composition)
    withExtendedLifetime(signals) {}
    exit(code)
  }
}

/// Delivers signals on its own queue, so that they arrive even if every thread of the cooperative
/// pool is stuck. That is when the deadline matters most.
///
/// `UnixSignalsSequence` is of no use here, because it hands over through a task.
private struct SignalTrap {
  private let sources: [any DispatchSourceSignal]

  static func install(
    _ numbers: [Int32], _ handler: @escaping @Sendable (Int32) -> Void
  ) async -> SignalTrap {
    let queue = DispatchQueue(label: "license-metering.signals")
    var sources: [any DispatchSourceSignal] = []
    for number in numbers {
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { handler(number) }
      // Registration is asynchronous. A signal before it would have its default effect.
      await withCheckedContinuation { (registered: CheckedContinuation<Void, Never>) in
        source.setRegistrationHandler { registered.resume() }
        source.resume()
      }
      sources.append(source)
    }
    return SignalTrap(sources: sources)
  }
}
