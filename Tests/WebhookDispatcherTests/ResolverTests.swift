import Foundation
import Metering
import Testing
import WebhookDelivery
import WebhookDispatcher

@Suite struct ResolverTests {
  /// A name server that answers some names. It keeps silent about the others until it is told to
  /// end.
  private final class NameServer: @unchecked Sendable {
    // These are guarded by the condition's lock.
    private let condition = NSCondition()
    private var isOver = false
    private var asked: [String: Int] = [:]

    func lookUp(_ host: String) throws -> [IPAddress] {
      condition.lock()
      defer { condition.unlock() }
      asked[host, default: 0] += 1
      if host.hasPrefix("silent") {
        while !isOver { condition.wait() }
        throw ResolutionFailure(description: "the name servers gave no answer")
      }
      return [IPAddress("8.8.8.8")!]
    }

    func count(_ host: String) -> Int { condition.withLock { asked[host] ?? 0 } }

    func end() {
      condition.withLock {
        isOver = true
        condition.broadcast()
      }
    }
  }

  @Test("Names whose servers are silent hold up no other name, however many they are")
  func silence() async throws {
    let server = NameServer()
    let resolver = SystemResolver { try server.lookUp($0) }
    let silent = (0..<150).map { n in Task { try await resolver.addresses(of: "silent\(n)") } }
    // This returns while every silent lookup still waits.
    #expect(try await resolver.addresses(of: "healthy").count == 1)
    server.end()
    for task in silent {
      await #expect(throws: ResolutionFailure.self) { try await task.value }
    }
    #expect(server.count("silent0") == 1)
  }

  @Test("All who ask for one name share its look-up")
  func shared() async throws {
    let server = NameServer()
    let resolver = SystemResolver { try server.lookUp($0) }
    let tasks = (0..<50).map { _ in Task { try await resolver.addresses(of: "silent") } }
    while server.count("silent") == 0 { await Task.yield() }
    server.end()
    for task in tasks { _ = await task.result }
    #expect(server.count("silent") <= 2)
  }

  @Test("A look-up that never began is distinguished from one that was cut off")
  func neverBegan() async throws {
    let server = NameServer()
    var limits = LookupSchedule.Limits()
    limits.fastSlots = 1
    limits.reservedSlots = 0
    limits.slowSlots = 0
    let resolver = SystemResolver(limits: limits) { try server.lookUp($0) }
    let first = Task { try await resolver.addresses(of: "silent1") }
    while server.count("silent1") == 0 { await Task.yield() }
    let second = Task { try await resolver.addresses(of: "silent2") }
    second.cancel()
    await #expect(throws: LookupNeverBegan.self) { try await second.value }
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    server.end()
    #expect(server.count("silent2") == 0)
  }

  @Test(
    "A delivery is not an attempt if its look-up never began, and is one if its name was silent")
  func blame() async throws {
    let server = NameServer()
    var limits = LookupSchedule.Limits()
    limits.fastSlots = 1
    limits.reservedSlots = 0
    limits.slowSlots = 0
    let fixture = try WebhookClientTests.Fixture(
      resolver: SystemResolver(limits: limits) { try server.lookUp($0) }, timeoutMilliseconds: 300)
    async let first = fixture.attempt("http://silent1.example.com/")
    while server.count("silent1.example.com") == 0 { await Task.yield() }
    let second = await fixture.attempt("http://silent2.example.com/")
    #expect(second.failure == .postponed && !second.isAttempt, "\(second)")
    #expect(await first.failure == .timeout)
    server.end()
    await fixture.end()
  }
}
