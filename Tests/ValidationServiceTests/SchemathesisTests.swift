import Foundation
import MeteringTestKit
import Testing

@testable import ValidationService

@Suite(.serialized) struct SchemathesisTests {
  @Test(
    "Generated requests find no behavior that the service's description does not state",
    .enabled(if: Schemathesis.isInstalled))
  func schemathesis() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into api_token (token_id, name, token_hash, scopes, customer_id)
      values ('tok_1', 'n', sha256('mtr_0123456789abcdef'), '{usage:write}', 'cus_1')
      """)
    // An event that breaks its schema is named in an answer with status 202, and its neighbors
    // count.
    for chosen in [
      ["--exclude-path", "/v1/events"],
      ["--include-path", "/v1/events", "--exclude-checks", "negative_data_rejection"],
    ] {
      let run = try ChildProcess(
        Schemathesis.folder + "schemathesis",
        [
          "run", "http://127.0.0.1:\(setup.port)/openapi.yaml", "--max-examples", "50",
          "--no-color",
          "--seed", "\(SeededRandom.testSeed() % 1_000_000)", "-H",
          "Authorization: Bearer mtr_0123456789abcdef",
        ] + chosen)
      let status = run.wait()
      try eventually("all of its output is read") { run.outputEnded }
      #expect(status == 0, "\(run.output.suffix(6_000))")
    }
    let file = setup.folder + "/openapi.yaml"
    try setup.request("GET", "/openapi.yaml").body.write(
      toFile: file, atomically: true, encoding: .utf8)
    let validator = try ChildProcess(Schemathesis.folder + "openapi-spec-validator", [file])
    #expect(validator.wait() == 0, "\(validator.output)")
  }
}

/// PyPI's programs that the test command installs. Where they are missing, the tests that need them
/// are skipped.
enum Schemathesis {
  static let folder: String = {
    let python = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? ""
    return python.isEmpty ? "" : (python as NSString).deletingLastPathComponent + "/"
  }()
  static let isInstalled = FileManager.default.isExecutableFile(atPath: folder + "schemathesis")
}
