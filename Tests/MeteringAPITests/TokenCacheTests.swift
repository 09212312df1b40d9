import Testing

@testable import MeteringAPI

@Suite struct TokenCacheTests {
  private let caller = Caller(kind: .token("tok"), customerID: nil, scopes: ["usage:read"])

  @Test func `A token is looked up once within its time, and again after it`() async throws {
    let cache = TokenCache()
    var count = 0
    func ask(_ now: Int) async throws -> Caller? {
      try await cache.caller("hash", now: now) {
        count += 1
        return caller
      }
    }
    for now in [0, 1, TokenCache.lifetimeMilliseconds - 1] {
      #expect(try await ask(now) == caller)
      #expect(count == 1)
    }
    #expect(try await ask(TokenCache.lifetimeMilliseconds) == caller)
    #expect(count == 2)
    cache.forgetAll()
    _ = try await ask(TokenCache.lifetimeMilliseconds)
    #expect(count == 3)
  }

  @Test func `An invalid token is not kept, nor is one that was read before a write`() async throws
  {
    let cache = TokenCache()
    #expect(try await cache.caller("hash", now: 0) { nil } == nil)
    #expect(try await cache.caller("hash", now: 0) { caller } == caller)
    cache.forgetAll()
    // A write ends while the token is looked up, and the cache forgets what it knew.
    let found = try await cache.caller("hash", now: 0) {
      cache.forgetAll()
      return caller
    }
    #expect(found == caller)
    #expect(try await cache.caller("hash", now: 0) { nil } == nil)
  }

  @Test func `A stranger's write makes nobody's token be looked up again`() async throws {
    let cache = TokenCache()
    var count = 0
    func ask() async throws {
      _ = try await cache.caller("hash", now: 0) {
        count += 1
        return caller
      }
    }
    try await ask()
    cache.forgetAll(after: .nobody)
    try await ask()
    #expect(count == 1)
    cache.forgetAll(after: caller)
    try await ask()
    #expect(count == 2)
  }
}
