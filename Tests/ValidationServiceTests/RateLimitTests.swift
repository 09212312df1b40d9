import Foundation
import MeteringTestKit
import Testing

@testable import ValidationService

@Suite(.serialized) struct RateLimitTests {
  @Test("A client that asks too often waits and gets the same answers, and a flood is refused")
  func rateLimits() throws {
    let setup = try Setup(environment: [
      "METER_ANONYMOUS_RATE_LIMIT": "2", "METER_ANONYMOUS_RATE_LIMIT_BURST": "5",
      "METER_MAX_DELAYED_REQUESTS": "0",
    ])
    try setup.addLicense("lic_1")
    try setup.addLicense("lic_2")
    var statuses: [Int] = []
    for _ in 0..<40 { statuses.append(try setup.validate("lic_1").status) }
    #expect(statuses.prefix(5).allSatisfy { $0 == 200 } && statuses.contains(429))
    #expect(try setup.validate("lic_2").status == 200)
    let patient = try Setup(environment: [
      "METER_ANONYMOUS_RATE_LIMIT": "20", "METER_ANONYMOUS_RATE_LIMIT_BURST": "5",
    ])
    try patient.addLicense("lic_1")
    let since = Date()
    for _ in 0..<25 { #expect(try patient.validate("lic_1")["code"] == "valid") }
    #expect(Date().timeIntervalSince(since) > 0.7)
  }

  @Test
  func `Invented license ids are slowed down by address, and known licenses are not`() throws {
    let setup = try Setup(environment: [
      "METER_UNKNOWN_RATE_LIMIT": "1", "METER_UNKNOWN_RATE_LIMIT_BURST": "5",
      "METER_MAX_DELAYED_REQUESTS": "0", "METER_TRUSTED_PROXIES": "127.0.0.1",
    ])
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    func ask(_ number: Int, _ client: String) throws -> Int {
      try setup.validate("lic_\(number)_invented", headers: ["X-Forwarded-For": client]).status
    }
    var statuses: [Int] = []
    for i in 0..<40 { statuses.append(try ask(i, "[2001:db8:1:2::\(i)]:443")) }
    #expect(statuses.prefix(5).allSatisfy { $0 == 200 } && statuses.contains(429), "\(statuses)")
    let known = try setup.validate("lic_1", headers: ["X-Forwarded-For": "2001:db8:1:2::1"])
    #expect(known.status == 200 && known["code"] == "valid")
    #expect(try ask(100, "2001:db8:1:3::1") == 200)
  }
}
