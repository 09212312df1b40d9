import Foundation
import Licensing
import MeteringTestKit
import Testing

@Suite(.serialized)
struct DescriptionTests {
  @Test(
    "Generated requests find no behavior that the service's description does not state",
    .enabled(if: PythonPrograms.isInstalled))
  func schemathesis() throws {
    var keys = JSONWebKeySet()
    try keys.add(try #require(JSONWebKey.generate(.edDSA, for: .license)))
    let stripe = try FakeStripe()
    try stripe.addMeter()
    var environment = stripe.environment
    environment["METER_SIGNING_KEY"] = String(decoding: keys.privateJSON, as: UTF8.self)
    environment["METER_ENCRYPTION_KEY"] = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    let setup = try APISetup(environment: environment)
    try setup.addLicense("lic_1")
    let seed = ProcessInfo.processInfo.environment["METER_TEST_SEED"]
    let run = try ChildProcess(
      PythonPrograms.folder + "schemathesis",
      [
        "run", "http://127.0.0.1:\(setup.port)/openapi.yaml", "--max-examples", "25", "--no-color",
        // The requests are the same in every run. METER_TEST_SEED adds random ones and sequences of
        // them.
        "--seed", seed ?? "20260729",
        "--phases", seed == nil ? "examples,coverage" : "examples,coverage,fuzzing,stateful",
        // No schema can state these rules: the name of a zone must exist, and a range must end
        // after its start.
        "--exclude-checks",
        // A token or endpoint that was revoked or deleted can still be read, with its end.
        "negative_data_rejection,positive_data_acceptance,use_after_free",
        // These need Kafka, and answer 503 without it.
        "--exclude-path", "/v1/events/{id}", "--exclude-path", "/v1/usage/events",
        "--exclude-path", "/v1/dead-letters/requeue",
        "-H", "Authorization: Bearer \(APISetup.adminToken)",
      ])
    let status = run.wait()
    try eventually("all of its output is read") { run.outputEnded }
    #expect(status == 0, "\(run.output.suffix(8_000))")
    #expect(setup.process.isRunning, "\(setup.process.output.suffix(4_000))")
  }

  @Test(
    "The description is a valid OpenAPI document", .enabled(if: PythonPrograms.isInstalled))
  func validator() throws {
    let setup = try APISetup()
    let file = NSTemporaryDirectory() + "openapi-\(UUID().uuidString).yaml"
    defer { try? FileManager.default.removeItem(atPath: file) }
    let document = try setup.get("/openapi.yaml", token: nil)
    #expect(document.headers["content-type"]?.hasPrefix("application/yaml") == true)
    try document.body.write(toFile: file, atomically: true, encoding: .utf8)
    let validator = try ChildProcess(PythonPrograms.folder + "openapi-spec-validator", [file])
    #expect(validator.wait() == 0, "\(validator.output)")
    let keys = try setup.get("/.well-known/jwks.json", token: nil)
    #expect(keys.status == 200 && keys.json["keys"] is [Any])
  }
}

/// PyPI's programs that the test command installs. Where they are missing, the tests that need them
/// are skipped.
enum PythonPrograms {
  static let folder: String = {
    let python = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? ""
    return python.isEmpty ? "" : (python as NSString).deletingLastPathComponent + "/"
  }()
  static let isInstalled = FileManager.default.isExecutableFile(atPath: folder + "schemathesis")
}
