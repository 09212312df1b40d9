import Foundation
import HTTPListening
import Metering
import NIOCore
import NIOHTTP1
import Testing

@testable import ValidationService

/// What a request says about itself and about its sender.
struct RequestTests {
  private func client(
    _ peer: String, forwarded: String?, trusted: [String] = ["10.0.0.0/8", "fd00::/8"],
    detail: ClientAddress.Detail = .full
  ) throws -> ClientAddress.Client {
    let addresses = ClientAddress(
      trustedProxies: trusted.compactMap { AddressRange($0) }, detail: detail)
    let socket = try SocketAddress(ipAddress: peer, port: 4_711)
    return addresses.resolve(addresses.client(socket), forwardedFor: forwarded)
  }

  @Test("X-Forwarded-For is believed only from trusted proxies, up to the first that is not one")
  func forwardedFor() throws {
    for (peer, forwarded, address) in [
      ("203.0.113.9", nil, "203.0.113.9"),
      ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
      ("10.1.2.3", nil, "10.1.2.3"),
      ("10.1.2.3", "198.51.100.7", "198.51.100.7"),
      ("10.1.2.3", "192.0.2.66, 198.51.100.7", "198.51.100.7"),
      ("10.1.2.3", "198.51.100.7, 10.9.9.9", "198.51.100.7"),
      ("10.1.2.3", "10.8.8.8,10.9.9.9", "10.8.8.8"),
      // Something that is no address ends the search, because nothing to the left of it can be
      // believed.
      ("10.1.2.3", "198.51.100.7, nonsense", "10.1.2.3"),
      ("10.1.2.3", "198.51.100.7, nonsense, 10.9.9.9", "10.9.9.9"),
      ("::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7"),
      ("fd00::1", "2001:db8::7", "2001:db8:0:0:0:0:0:7"),
      ("10.1.2.3", "198.51.100.7:4711", "198.51.100.7"),
      ("10.1.2.3", "198.51.100.7\t , \t10.9.9.9:80 ", "198.51.100.7"),
      ("10.1.2.3", "[2001:db8::7]", "2001:db8:0:0:0:0:0:7"),
      ("10.1.2.3", "[2001:db8::7]:443, [fd00::2]:8080", "2001:db8:0:0:0:0:0:7"),
      ("10.1.2.3", "[::ffff:198.51.100.7]:443", "198.51.100.7"),
      ("10.1.2.3", "198.51.100.7:", "10.1.2.3"), ("10.1.2.3", "198.51.100.7:99999", "10.1.2.3"),
      ("10.1.2.3", "[198.51.100.7]", "10.1.2.3"), ("10.1.2.3", "[2001:db8::7", "10.1.2.3"),
      ("10.1.2.3", "[2001:db8::7]443", "10.1.2.3"), ("10.1.2.3", "unknown", "10.1.2.3"),
      ("203.0.113.9", "[2001:db8::7]:443", "203.0.113.9"),
    ] as [(String, String?, String)] {
      #expect(try client(peer, forwarded: forwarded).text == address, "\(peer) \(forwarded ?? "")")
    }
    #expect(try client("10.1.2.3", forwarded: "198.51.100.7", trusted: []).text == "10.1.2.3")
  }

  @Test("The setting decides how much of an address goes into events")
  func detail() throws {
    func text(_ peer: String, _ detail: ClientAddress.Detail) throws -> String? {
      try client(peer, forwarded: nil, detail: detail).text
    }
    #expect(try text("203.0.113.9", .truncated) == "203.0.113.0")
    #expect(try text("2001:db8:1:2:3:4:5:6", .truncated) == "2001:db8:1:0:0:0:0:0")
    #expect(try text("203.0.113.9", .off) == nil)
    // The address still limits the rate.
    #expect(try client("203.0.113.9", forwarded: nil, detail: .off).address != nil)
    let addresses = ClientAddress(trustedProxies: [], detail: .full)
    #expect(addresses.client(nil).address == nil)
  }

  @Test("Header fields are found in any case, and repeated ones give one list of values")
  func fields() {
    let fields = RequestFields(
      HTTPHeaders([
        ("Host", "a"), ("AUTHORIZATION", "Bearer x"), ("x-forwarded-for", "192.0.2.1"),
        ("X-Forwarded-For", "192.0.2.2"), ("Content-Length", "12"), ("Expect", "100-Continue"),
        ("idempotency-Key", "k"), ("User-Agent", "u"), ("Content-Typo", "t"),
      ]))
    #expect(fields.authorization == "Bearer x")
    #expect(fields.forwardedFor == "192.0.2.1, 192.0.2.2")
    #expect(fields.contentLength == 12 && fields.expectsContinue)
    #expect(fields.idempotencyKey == "k" && fields.userAgent == "u")
    #expect(fields.contentType == nil && !fields.asksForUpgrade)
  }

  private func group(_ address: String) throws -> AddressGroup {
    AddressGroup(try #require(IPAddress(address)))
  }

  @Test
  func `Bodies take no more than their memory, and a client no more than its share`() throws {
    let memory = BodyMemory(limit: 100, share: 60)
    let (one, other) = (try group("192.0.2.1"), try group("192.0.2.2"))
    #expect(memory.take(60, for: one) && !memory.take(1, for: one))
    #expect(memory.take(40, for: other) && !memory.take(1, for: nil))
    memory.give(60, of: one)
    #expect(memory.take(60, for: nil) && !memory.take(1, for: other))
    memory.give(60, of: nil)
    memory.give(40, of: other)
    #expect(memory.take(60, for: other) && memory.take(40, for: one))
  }

  @Test
  func `Addresses of one IPv6 network of 64 bits count as one client`() throws {
    #expect(try group("2001:db8:1:2::1") == group("2001:db8:1:2:ffff::9"))
    #expect(try group("2001:db8:1:2::1") != group("2001:db8:1:3::1"))
    #expect(try group("192.0.2.1") != group("192.0.2.2"))
    #expect(try group("0.0.0.1") != group("::1"))
  }

  @Test
  func `A request that costs more uses up more of its rate`() {
    let rate = RateLimiter.Rate(perSecond: 10, burst: 10)
    let limiter = RateLimiter()
    #expect(limiter.delay("a", rate, cost: 10, now: 0) == 0)
    #expect(limiter.delay("a", rate, cost: 0, now: 0) == 0)
    #expect(limiter.delay("a", rate, cost: 5, now: 0) == 500_000)
    #expect(limiter.delay("a", rate, cost: 0, now: 0) == 500_000)
    #expect(limiter.delay("a", rate, cost: 1_000_000, now: 0) == RateLimiter.maximumDelay)
    #expect(limiter.delay("a", rate, now: 7_000_000) == 0)
  }
}
