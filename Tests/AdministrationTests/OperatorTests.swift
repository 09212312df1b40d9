import Foundation
import MeteringTestKit
import Testing

/// `meterctl` makes changes by the same rules, and they leave the same rows in the audit log.
@Suite(.serialized)
struct OperatorTests {
  private let database: TestDatabase

  init() throws { database = try TestDatabase() }

  private func meterctl(_ arguments: String...) throws -> (status: Int32, output: String) {
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), arguments,
      environment: [
        "METER_DATABASE_URL": database.url,
        "METER_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
      ])
    let status = process.wait()
    try eventually("all is read") { process.outputEnded }
    return (status, process.output)
  }

  private func json(_ text: String) throws -> Any {
    try JSONSerialization.jsonObject(with: Data(text.utf8))
  }

  @Test func `Customers are added, changed, listed and shown`() throws {
    let added = try meterctl("customer", "add", "cus_1", "--name", "One", "--json")
    #expect(added.status == 0, "\(added.output)")
    #expect(try meterctl("customer", "add", "cus_1").status == 3)
    let updated = try meterctl(
      "customer", "update", "cus_1", "--stripe-customer", "cus_Nff", "--json")
    let shown = try json(updated.output) as? [String: Any]
    #expect(shown?["name"] as? String == "One")
    #expect(shown?["stripe_customer_id"] as? String == "cus_Nff")
    #expect(try meterctl("customer", "add", "cus_2").status == 0)
    let list = try json(try meterctl("customer", "list", "--limit", "1", "--json").output)
    #expect((list as? [[String: Any]])?.compactMap { $0["customer_id"] as? String } == ["cus_1"])
    #expect(try meterctl("customer", "show", "cus_1").output.contains("cus_Nff"))
    #expect(try meterctl("customer", "show", "cus_9").status == 3)
    #expect(try meterctl("customer", "update", "cus_1").status == 2)
  }

  @Test func `Every change by meterctl is in the audit log, with who made it`() throws {
    try database.addLicense("lic_1", domains: ["example.com"])
    for arguments in [
      ["license", "suspend", "lic_1"], ["license", "update", "lic_1", "--plan", "max"],
      ["token", "create", "--name", "t", "--scope", "billing:read"],
      ["endpoint", "add", "--all-customers", "--url", "https://example.com/hook"],
    ] {
      let process = try ChildProcess(
        ChildProcess.product("meterctl"), arguments,
        environment: [
          "METER_DATABASE_URL": database.url,
          "METER_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ])
      #expect(process.wait() == 0, "\(arguments): \(process.output)")
    }
    let unknown = try meterctl("token", "create", "--name", "t", "--scope", "everything")
    #expect(unknown.status == 2)
    let rows = try database.rows(
      "select action, actor_kind, actor_id <> '' from audit_log order by audit_id")
    #expect(
      rows == [
        ["license.suspend", "operator", "t"], ["license.update", "operator", "t"],
        ["token.create", "operator", "t"], ["webhook_endpoint.create", "operator", "t"],
      ])
    let log = try meterctl("audit", "--resource", "license/lic_1", "--json")
    let entries = try json(log.output) as? [[String: Any]]
    #expect(
      entries?.compactMap { $0["action"] as? String } == ["license.update", "license.suspend"])
    #expect((entries?.first?["after"] as? [String: String]) == ["plan": "max"])
    #expect(try meterctl("audit", "--action", "token.create").output.contains("token.create"))
    let kept = try database.rows("select audit_log::text from audit_log")
    #expect(!"\(kept)".contains("mtr_") && !"\(kept)".contains("whsec_"))
  }

  @Test func `A token gets several scopes from one option or from several`() throws {
    for arguments in [
      ["--scope", "usage:read", "licenses:validate"],
      ["--scope", "usage:read", "--scope", "licenses:validate"],
    ] {
      let process = try ChildProcess(
        ChildProcess.product("meterctl"), ["token", "create"] + arguments + ["--name", "t"],
        environment: ["METER_DATABASE_URL": database.url])
      #expect(process.wait() == 0, "\(process.output)")
    }
    #expect(
      try database.rows("select array_to_string(scopes, ' ') from api_token")
        == [["usage:read licenses:validate"], ["usage:read licenses:validate"]])
  }

  @Test func `Keys are listed and rotated in the file that the services read`() throws {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("keys-\(UUID().uuidString).json").path
    defer { unlink(file) }
    func key(_ arguments: String..., named: Bool = true) throws -> (Int32, String) {
      let process = try ChildProcess(
        ChildProcess.product("meterctl"), ["key"] + arguments,
        environment: named ? ["METER_SIGNING_KEY_FILE": file] : [:])
      let status = process.wait()
      try eventually("all is read") { process.outputEnded }
      return (status, process.output)
    }
    #expect(try key("generate", "--out", file).0 == 0)
    #expect(try key("rotate", "--purpose", "verdict").0 == 0)
    let listed = try json(try key("list", "--json").1) as? [[String: Any]]
    #expect(
      listed?.compactMap { $0["purpose"] as? String }.sorted() == ["license", "verdict", "verdict"])
    #expect(try key("list", file, named: false).0 == 0)
    #expect(try key("list", named: false).0 == 2)
  }

  private static let line = """
    {"license_id":"lic_1","customer_id":"cus_1","plan":"p","features":[],"domains":["example.com"],"limits":{"apiCalls":1},"status":"active","issued_at":"2026-01-01T00:00:00Z","expires_at":"2027-01-01T00:00:00Z"}

    """

  @Test func `An import from a pipe holds no transaction while its writer is slow`() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("licenses-\(UUID().uuidString)").path
    #expect(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    // A pipe that is open for both does not wait for its reader.
    let pipe = open(path, O_RDWR | O_CLOEXEC)
    let process = try ChildProcess(
      ChildProcess.product("meterctl"), ["license", "import", path],
      environment: ["METER_DATABASE_URL": database.url])
    let bytes = Array(Self.line.utf8)
    #expect(write(pipe, bytes, bytes.count) == bytes.count)
    try eventually("the line is read") {
      var unread: Int32 = 0
      _ = ioctl(pipe, UInt(FIONREAD), &unread)
      return unread == 0
    }
    #expect(
      try database.integer(
        """
        select count(*) from pg_stat_activity where datname = current_database()
          and pid <> pg_backend_pid() and xact_start is not null
          and backend_type = 'client backend'
        """) == 0)
    close(pipe)
    #expect(process.wait() == 0)
    #expect(try database.integer("select count(*) from license") == 1)
  }

  @Test func `An import is one row with its counts`() throws {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("licenses-\(UUID().uuidString).jsonl")
    defer { try? FileManager.default.removeItem(at: file) }  // The system clears it too.
    try Self.line.write(to: file, atomically: true, encoding: .utf8)
    #expect(try meterctl("license", "import", file.path).status == 0)
    #expect(
      try database.rows("select action, after->>'created' from audit_log")
        == [["license.import", "1"]])
    #expect(try meterctl("license", "import", file.path).output.contains("1 unchanged"))
  }
}
