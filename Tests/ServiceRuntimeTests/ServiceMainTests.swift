import Foundation
import Logging
import ServiceLifecycle
import Testing

@testable import ServiceRuntime

/// Runs until it is told to stop, and then takes `flushMilliseconds`. With `nil` it never ends.
private struct Worker: Service {
  var flushMilliseconds: Int? = 0
  var started: @Sendable () -> Void = {}

  func run() async throws {
    started()
    try await gracefulShutdown()
    if let flushMilliseconds {
      try await Task.sleep(for: .milliseconds(flushMilliseconds))
    } else {
      // Neither shutdown nor cancellation ends this, and no thread of the pool is left for others.
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<256 { group.addTask { block() } }
      }
    }
    StandardError.write("flushed\n")
  }
}

private func block() {
  sleep(60)
}

private struct Broken: Service {
  func run() async throws { throw ListenError(address: loopback, underlying: CancellationError()) }
}

private struct Brief: Service {
  func run() async throws {}
}

private let loopback = BindAddress(host: "127.0.0.1", port: 0)

private func admin(_ onBound: @escaping @Sendable (Int) -> Void) -> AdminServer {
  AdminServer(
    bind: loopback, health: HealthState(), metrics: MetricsRegistry(),
    logger: Logger(label: "svc"), onBound: onBound)
}

/// Each test runs `ServiceMain.run` in a separate process.
@Suite struct ServiceMainTests {
  private func lines(_ bytes: [UInt8]) -> [String] {
    String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  @Test func `A configuration error is one line and status 78`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(78), observing: [\.standardErrorContent]
    ) {
      await ServiceMain.run(service: "svc") { _ in
        throw ConfigurationError("METER_X must be\nset")
      }
    }
    #expect(lines(result.standardErrorContent) == ["svc: METER_X must be\\nset"])
  }

  @Test func `A wrong log setting is refused before the service's own code runs`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(78), observing: [\.standardErrorContent]
    ) {
      setenv("METER_LOG_FORMAT", "xml", 1)
      await ServiceMain.run(service: "svc") { _ in fatalError("reached") }
    }
    #expect(
      lines(result.standardErrorContent) == ["svc: METER_LOG_FORMAT must be one of text, json"])
  }

  @Test func `Another startup error is one line and status 1`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(1), observing: [\.standardErrorContent]
    ) {
      await ServiceMain.run(service: "svc") { _ in throw ServiceGroupError.alreadyRunning() }
    }
    #expect(lines(result.standardErrorContent).count == 1)
    #expect(lines(result.standardErrorContent)[0].hasPrefix("svc: "))
  }

  @Test func `A taken admin address is one line and status 1`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(1), observing: [\.standardErrorContent]
    ) {
      setenv("METER_LOG_LEVEL", "warning", 1)
      let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
      let first = AdminServer(
        bind: loopback, health: HealthState(), metrics: MetricsRegistry(),
        logger: Logger(label: "first", factory: { _ in SwiftLogNoOpLogHandler() }),
        onBound: { continuation.yield($0) })
      Task { try await first.run() }
      var iterator = ports.makeAsyncIterator()
      guard let port = await iterator.next() else { return }
      await ServiceMain.run(service: "svc") { _ in
        let second = AdminServer(
          bind: BindAddress(host: "127.0.0.1", port: port), health: HealthState(),
          metrics: MetricsRegistry(), logger: Logger(label: "svc"))
        return ServiceMain.Composition(
          services: [], admin: second, logger: Logger(label: "svc"))
      }
    }
    let said = lines(result.standardErrorContent)
    #expect(said.count == 1, "\(said)")
    #expect(said.first?.contains("critical svc cannot listen on 127.0.0.1:") == true, "\(said)")
    #expect(said.first?.contains("Address already in use (errno: 98)") == true, "\(said)")
  }

  @Test(arguments: [SIGTERM, SIGINT])
  func `A signal stops the services and the status is 0`(number: Int32) async throws {
    let result = try await #require(
      processExitsWith: .exitCode(0), observing: [\.standardErrorContent]
    ) { [number] in
      setenv("METER_LOG_LEVEL", "info", 1)
      await ServiceMain.run(service: "svc") { _ in
        ServiceMain.Composition(
          services: [Worker(flushMilliseconds: 200), Worker(flushMilliseconds: 200)],
          admin: admin { _ in kill(getpid(), number) }, logger: Logger(label: "svc"))
      }
    }
    let said = lines(result.standardErrorContent)
    #expect(said.count { $0 == "flushed" } == 2, "\(said)")
    #expect(said.last?.hasSuffix("info svc stopped") == true, "\(said)")
  }

  @Test func `A signal during startup ends the process with status 0`() async {
    await #expect(processExitsWith: .exitCode(0)) {
      await ServiceMain.run(service: "svc") { _ in
        kill(getpid(), SIGTERM)
        try await Task.sleep(for: .seconds(60))
        throw CancellationError()
      }
    }
  }

  @Test func `A service that never stops is left behind within ten seconds`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(0), observing: [\.standardErrorContent]
    ) {
      await ServiceMain.run(service: "svc") { _ in
        ServiceMain.Composition(
          services: [
            Worker(flushMilliseconds: nil) {
              StandardError.write("signalled \(DispatchTime.now().uptimeNanoseconds)\n")
              kill(getpid(), SIGTERM)
            }
          ], admin: nil, logger: Logger(label: "svc"))
      }
    }
    let ended = DispatchTime.now().uptimeNanoseconds
    // The ten seconds begin with the signal, however long the process took to start. Waiting for
    // the service would take 60 s.
    let line = try #require(lines(result.standardErrorContent).first { $0.hasPrefix("signalled ") })
    let signalled = try #require(UInt64(line.dropFirst("signalled ".count)))
    #expect(ended - signalled < 20_000_000_000)
  }

  @Test func `A failing service stops the others and the status is 1`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(1), observing: [\.standardErrorContent]
    ) {
      await ServiceMain.run(service: "svc") { _ in
        ServiceMain.Composition(
          services: [Worker(), Broken(), Worker()], admin: nil, logger: Logger(label: "svc"))
      }
    }
    let said = lines(result.standardErrorContent)
    #expect(said.count { $0 == "flushed" } == 2, "\(said)")
    #expect(said.count { $0.contains(" critical svc ") } == 1, "\(said)")
  }

  @Test func `A service that returns unasked has failed`() async throws {
    let result = try await #require(
      processExitsWith: .exitCode(1), observing: [\.standardErrorContent]
    ) {
      await ServiceMain.run(service: "svc") { _ in
        ServiceMain.Composition(
          services: [Worker(), Brief()], admin: nil, logger: Logger(label: "svc"))
      }
    }
    let said = lines(result.standardErrorContent)
    #expect(said.contains { $0.contains("ended without having been asked to") }, "\(said)")
  }
}
