import Foundation

/// A program that a test starts. It is killed with this object at the latest.
package final class ChildProcess: @unchecked Sendable {
  // `Process` may be used from any thread. After init, our own state changes only under
  // `condition`.
  private let process = Process()
  private let condition = NSCondition()
  private var text = ""
  private var isClosed = false
  package let name: String

  /// - Parameters:
  ///   - environment: replaces only the named variables of this process's environment.
  ///     A program that is given the Kafka of `METER_TEST_KAFKA_BROKERS` is also told the names there.
  package init(
    _ executable: String, _ arguments: [String] = [], environment: [String: String] = [:]
  )
    throws
  {
    name = (executable as NSString).lastPathComponent
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    var environment = environment
    if let file = GivenKafka.configFile(for: environment["METER_KAFKA_BROKERS"]) {
      environment.merge(["METER_KAFKA_CONFIG_FILE": file]) { given, _ in given }
    }
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    // From now on only the child holds it, so the output ends when the child does.
    try pipe.fileHandleForWriting.close()
    let reading = pipe.fileHandleForReading
    Thread.detachNewThread { [weak self] in Self.read(reading) { self?.take($0) } }
  }

  /// Blocks in `read` on its own thread. `readabilityHandler` lost the tail of 98 KB that a program
  /// wrote just before it ended.
  private static func read(_ handle: FileHandle, _ take: (Data) -> Void) {
    while true {
      let data = handle.availableData
      take(data)
      if data.isEmpty { return }
    }
  }

  private func take(_ data: Data) {
    condition.lock()
    if data.isEmpty {
      isClosed = true
    } else {
      text += String(decoding: data, as: UTF8.self)
    }
    condition.broadcast()
    condition.unlock()
  }

  deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

  package var pid: Int32 { process.processIdentifier }
  package var isRunning: Bool { process.isRunning }

  /// Everything printed so far, both streams.
  package var output: String {
    condition.lock()
    defer { condition.unlock() }
    return text
  }

  /// Whether both streams have ended, so that `output` is all of it.
  package var outputEnded: Bool {
    condition.lock()
    defer { condition.unlock() }
    return isClosed
  }

  package func signal(_ number: Int32) { kill(pid, number) }

  /// Waits for the end. Returns the exit code, or minus the signal.
  @discardableResult
  package func wait() -> Int32 {
    process.waitUntilExit()
    return process.terminationReason == .uncaughtSignal
      ? -process.terminationStatus : process.terminationStatus
  }

  /// Sends SIGKILL and waits.
  package func killNow() {
    signal(SIGKILL)
    process.waitUntilExit()
  }

  /// Waits until the output contains `needle`. Returns false if the output or the time ends first.
  package func waitForOutput(_ needle: String, seconds: Double = 60) -> Bool {
    let end = Date(timeIntervalSinceNow: seconds)
    condition.lock()
    defer { condition.unlock() }
    while !text.contains(needle) {
      if isClosed || !condition.wait(until: end) { return text.contains(needle) }
    }
    return true
  }

  /// The folder with the project's executables, beside the running test bundle or benchmark.
  package static var productsFolder: String {
    let own = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    return own.deletingLastPathComponent().path
  }

  package static func product(_ name: String) -> String { productsFolder + "/" + name }
}
