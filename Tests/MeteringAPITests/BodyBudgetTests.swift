import HTTPListening
import HTTPTypes
import Metering
import NIOCore
import Testing

@testable import MeteringAPI

@Suite struct BodyBudgetTests {
  private func client(_ address: String) throws -> AddressGroup {
    AddressGroup(try #require(IPAddress(address)))
  }

  private func stream(_ sizes: [Int]) -> AsyncStream<ByteBuffer> {
    AsyncStream { continuation in
      for size in sizes { continuation.yield(ByteBuffer(repeating: 0x20, count: size)) }
      continuation.finish()
    }
  }

  /// Holds `first` while `second` is collected.
  private func whileHeld(
    _ budget: BodyBudget, _ first: AddressGroup, _ second: AddressGroup, _ size: Int
  ) async throws -> APIAnswer {
    let other = stream([size])
    return try await budget.collecting(stream([60]), 100, of: first) { _ in
      try await budget.collecting(other, 100, of: second) { bytes in
        APIAnswer(status: .ok, type: "text/plain", bytes: bytes)
      }
    }
  }

  @Test func `One client cannot take the room of the others`() async throws {
    let budget = BodyBudget(BodyMemory(limit: 1_000, share: 100))
    let (one, other) = (try client("203.0.113.1"), try client("203.0.113.2"))
    let answer = try await whileHeld(budget, one, other, 60)
    #expect(answer.status == .ok)
    let refusal = await #expect(throws: Problem.self) { try await whileHeld(budget, one, one, 60) }
    #expect(refusal?.status == .serviceUnavailable)
    // Held room is given back, whether the body was refused or not.
    for _ in 0..<50 { _ = try await whileHeld(budget, one, other, 60) }
  }

  @Test func `A body beyond the maximum is refused, and an unknown client has the common room`()
    async throws
  {
    let budget = BodyBudget(BodyMemory(limit: 100, share: 10))
    let one = try client("203.0.113.1")
    let refusal = await #expect(throws: Problem.self) {
      try await budget.collecting(stream([40, 40, 40]), 100, of: nil) { _ in
        APIAnswer(status: .ok, type: "text/plain", bytes: [])
      }
    }
    #expect(refusal?.status == .contentTooLarge)
    _ = try await budget.collecting(stream([10]), 100, of: one) { bytes in
      #expect(bytes.count == 10)
      return APIAnswer(status: .ok, type: "text/plain", bytes: [])
    }
  }
}
