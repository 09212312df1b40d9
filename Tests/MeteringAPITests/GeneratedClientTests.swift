import Foundation
import MeteringTestKit
import Testing

/// A client that is generated from the description works with the service.
@Suite struct GeneratedClientTests {
  private static let generator = PythonPrograms.folder + "openapi-python-client"

  @Test(
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: generator),
      "openapi-python-client of PyPI is not there"))
  func `A client that is generated from openapi yaml registers, reads, closes and corrects`() throws
  {
    let setup = try APISetup(environment: [
      "METER_CLOSE_GRACE": "0s",
      "METER_ENCRYPTION_KEY": Data(repeating: 7, count: 32).base64EncodedString(),
    ])
    try setup.addLicense("lic_1")
    try setup.database.execute(
      """
      insert into usage_pending values (1, 0, 'lic_1', 'api_calls', '2025-01-10 10:00Z', 7, 9,
        12, 1, '[5,12,1]', '');
      select usage_merge('{0}')
      """)
    let folder = NSTemporaryDirectory() + "generated-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }  // The system clears it too.
    let made = try ChildProcess(
      Self.generator,
      [
        "generate", "--url", "http://127.0.0.1:\(setup.port)/openapi.yaml", "--meta", "none",
        "--output-path", folder + "/metering_client",
      ])
    let status = made.wait()
    try eventually("all of its output is read") { made.outputEnded }
    #expect(status == 0, "\(made.output)")
    // The generator has no model for the document itself, which is YAML. Everything else must have
    // one.
    #expect(made.output.components(separatedBy: "WARNING").count <= 2, "\(made.output)")
    let client = try ChildProcess(
      PythonPrograms.folder + "python",
      [
        "Tests/MeteringAPITests/GeneratedClient/use_client.py", folder,
        "http://127.0.0.1:\(setup.port)", APISetup.adminToken,
      ])
    let used = client.wait()
    try eventually("all of its output is read") { client.outputEnded }
    #expect(used == 0, "\(client.output)")
  }
}
