import Foundation
package import Logging
package import ServiceLifecycle

/// The main function of every service.
///
/// Exit status: 0 after SIGTERM or SIGINT, 78 for a `ConfigurationError`, 1 for any other failure.
package enum ServiceMain {
  /// What a service consists of once its settings are read.
  package struct Composition: Sendable {
    let services: [any Service]
    let admin: AdminServer?
    let logger: Logger

    /// - Parameter services: in the order of dependence: shut down one after the other, the last
    ///   first. The admin server outlives them all, so that a slow flush can be watched.
    package init(services: [any Service], admin: AdminServer?, logger: Logger) {
      self.services = services
      self.admin = admin
      self.logger = logger
    }
  }

  /// Sets up logging, has `body` compose the service, and runs it until a signal or a failure.
  ///
  /// - An error of `body` is printed as one line, `service: message`, on standard error; an error
  ///   of a running service is logged as one `critical` line. Neither is followed by more.
  /// - A service whose `run()` returns before it was asked to has failed.
  /// - On a signal: graceful shutdown; after 8 s, cancellation; after 9.5 s, exit in any case. A
  ///   service that fails while it stops is logged, and the status is still 0: what was not
  ///   flushed was not committed either, and is read again.
  /// - A signal while `body` runs ends the process at once.
  package static func run(
    service: String, _ body: @Sendable (Settings) async throws -> Composition
  ) async -> Never {
    // A peer that hangs up is an error of that write, not the end of the process.
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

/// Delivers signals on a queue of its own, so that they arrive even where every thread of the
/// cooperative pool is stuck, which is when the deadline matters most.
///
/// Not `UnixSignalsSequence`: it hands over through a task.
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
      // Registration is asynchronous; a signal before it would have its default effect.
      await withCheckedContinuation { (registered: CheckedContinuation<Void, Never>) in
        source.setRegistrationHandler { registered.resume() }
        source.resume()
      }
      sources.append(source)
    }
    return SignalTrap(sources: sources)
  }
}
