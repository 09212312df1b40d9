import ArgumentParser
import Foundation
import KafkaTransport
import PostgresStore
import ServiceRuntime

/// The exit codes of every command.
enum Ending {
  /// A difference was found. Throw this after printing it.
  static let difference = ExitCode(1)
  static let wrongUsage: Int32 = 2
  static let failed: Int32 = 3
  /// The log could prove none of the rows. `reconcile` found no difference because it could not
  /// look for any.
  static let nothingProved = ExitCode(4)

  /// Runs the command line and ends the process: 0 done, 1 found a difference, 2 wrong usage, 3
  /// failed, 4 proved nothing. One line on stderr says what failed.
  static func run<Root: ParsableCommand>(_ root: Root.Type) async -> Never {
    do {
      var command = try root.parseAsRoot()
      checkNames()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
      Foundation.exit(0)
    } catch {
      end(root, error)
    }
  }

  /// A variable that no program reads is wrong usage, like an unknown option.
  private static func checkNames() {
    do {
      try Settings().checkNames()
    } catch {
      Terminal.error("meterctl: \(error)")
      Foundation.exit(wrongUsage)
    }
  }

  private static func end<Root: ParsableCommand>(_ root: Root.Type, _ error: any Error) -> Never {
    if let code = error as? ExitCode { Foundation.exit(code.rawValue) }
    switch root.exitCode(for: error) {
    case .success: root.exit(withError: error)  // --help, --version
    case .validationFailure:
      Terminal.error(root.fullMessage(for: error))
      Foundation.exit(wrongUsage)
    default:
      Terminal.error("meterctl: " + message(error))
      Foundation.exit(failed)
    }
  }

  /// One line with what failed and, if it is known, what to do. It never contains the value of a
  /// setting.
  static func message(_ error: any Error) -> String {
    switch error {
    case let error as PostgresError where error.refusal != nil:
      "\(error.refusal ?? "") (\(error))"
    case let error as PostgresError where error.operation == "connect":
      "\(error); METER_DATABASE_URL must name a running PostgreSQL that accepts the connection"
    case let error as KafkaError where error.isAccessRefused: "Kafka, \(error.explanation)"
    case let error as KafkaError where error.isTimeout || error.isRetriable:
      "Kafka, \(error); METER_KAFKA_BROKERS must name running brokers that can be reached"
    case let error as KafkaError: "Kafka, \(error)"
    case let error as any LocalizedError:
      error.errorDescription ?? String(describing: error)
    default: String(describing: error)
    }
  }
}

/// What went wrong and what to do, in one sentence. The process ends with status 3.
struct Failure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
