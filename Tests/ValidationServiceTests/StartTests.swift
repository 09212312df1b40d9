import Foundation
import Licensing
import Metering
import MeteringTestKit
import Testing

/// How the service starts with different settings.
@Suite(.serialized)
struct StartTests {
  @Test
  func `A database URL that can never connect ends the start with one line and status 78`() throws {
    let setup = try Setup()
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
    for url in ["localhost:5432/metering", "postgresql://u:hunter2@localhost:notaport/metering"] {
      let process = try ChildProcess(
        ChildProcess.product("validation-service"),
        environment: setup.environment.merging(["METER_DATABASE_URL": url]) { $1 })
      #expect(process.wait() == 78)
      try eventually("all is read") { process.outputEnded }
      #expect(process.output.split(separator: "\n").count == 1, "\(process.output)")
      #expect(process.output.contains("METER_DATABASE_URL is not a valid"), "\(process.output)")
      #expect(!process.output.contains("hunter2"))
    }
  }

  @Test
  func `An unknown database is reported as such, not as a missing server`() throws {
    var url = try #require(URLComponents(string: try SharedPostgres.makeDatabase()))
    url.path = "/nowhere"
    let setup = try Setup(databaseURL: url.string)
    try eventually("it says so") {
      HTTPGet.get(port: setup.adminPort, "/health/ready")?.body
        .contains("PostgreSQL has no such database, so METER_DATABASE_URL") == true
    }
  }

  @Test
  func `The service needs no private key for licenses, and meterctl leaves it out`() throws {
    let first = try Setup()
    #expect(first.process.output.contains("holds a private key for licenses"))
    try first.addLicense("lic_1")
    let whole = first.folder + "/keys.json"
    try Data(first.keys.privateJSON).write(to: URL(fileURLWithPath: whole))
    let online = first.folder + "/online.json"
    func export() throws -> Int32 {
      try ChildProcess(
        ChildProcess.product("meterctl"),
        ["key", "export", whole, "--for", "validation-service", "--out", online]
      ).wait()
    }
    #expect(try export() == 0)
    // An existing file is not overwritten.
    #expect(try export() == 3)
    let mode = try FileManager.default.attributesOfItem(atPath: online)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    let exported = try JSONWebKeySet(json: Data(contentsOf: URL(fileURLWithPath: online)))
    #expect(exported.signingKey(for: .license) == nil)
    #expect(
      exported.signingKey(for: .verdict)?.keyID == first.keys.signingKey(for: .verdict)?.keyID)
    #expect(exported.publicJSON == first.keys.publicJSON)
    let second = try Setup(environment: [
      "METER_SIGNING_KEY": String(decoding: exported.privateJSON, as: UTF8.self)
    ])
    #expect(!second.process.output.contains("holds a private key for licenses"))
    let now = Int64(Date().timeIntervalSince1970) * 1_000
    let token = try #require(
      LicenseSigner(keys: first.keys)?.token(
        LicenseClaims(
          licenseID: "lic_signed", domains: ["example.com"], plan: "p", issuedAt: now - 1_000,
          expiresAt: now + 86_400_000)))
    #expect(try second.validate(token)["code"] == "valid")
  }
}
