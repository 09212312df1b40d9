import Foundation
import Testing

@testable import ServiceRuntime

@Suite struct KnownVariablesTests {
  private func refusal(_ environment: [String: String]) -> String? {
    do {
      try KnownVariables.check(environment)
      return nil
    } catch {
      return error.description
    }
  }

  @Test(
    arguments: [
      ("METER_SPOL_DIR", "METER_SPOOL_DIR"), ("METER_KAFKA_BROKER", "METER_KAFKA_BROKERS"),
      ("METER_KAFKA_BROKERS_FIEL", "METER_KAFKA_BROKERS_FILE"),
      ("METER_WEBHOOK_TIMEOUTS", "METER_WEBHOOK_TIMEOUT"),
      ("METER_ENCRYPTON_KEY_FILE", "METER_ENCRYPTION_KEY_FILE"),
      ("METER_database_url", nil), ("METER_ZQX", nil), ("METER_", nil),
    ] as [(String, String?)])
  func `An unknown variable is named, with the name that was probably meant`(
    name: String, meant: String?
  ) {
    let end = meant.map { "; did you mean \($0)?" } ?? ""
    #expect(refusal([name: "secret"]) == "\(name) is not a setting of any program\(end)")
  }

  @Test
  func `A variable that a program reads, that is empty or that is the tests' own is no mistake`() {
    var environment = ["METER_TEST_ANYTHING": "x", "METER_TYPO": "", "PATH": "x", "METERX": "x"]
    for name in KnownVariables.all {
      environment[name] = "x"
      environment[name + "_FILE"] = "x"
    }
    #expect(refusal(environment) == nil)
  }

  @Test func `A variable that the contract gives to another service is no mistake`() {
    let shared = ["METER_PUBLIC_URL": "x", "METER_STRIPE_API_KEY_FILE": "x"]
    #expect(refusal(shared) == nil)
  }

  @Test func `The variables of the Terraform provider are no mistake`() {
    #expect(refusal(["METER_API_URL": "x", "METER_API_TOKEN": "x"]) == nil)
    #expect(refusal(["METER_API_TOKN": "x"])?.hasSuffix("did you mean METER_API_TOKEN?") == true)
  }

  @Test func `Every variable that the sources name is known`() throws {
    let sources = URL(filePath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Sources")
    let files = try #require(
      FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
    var unknown: Set<String> = []
    for case let file as URL in files where file.pathExtension == "swift" {
      let text = try String(contentsOf: file, encoding: .utf8)
      for match in text.matches(of: /\b(METER_[A-Z][A-Z_]*[A-Z])\b/) {
        let name = String(match.output.1)
        let isFile =
          name.hasSuffix("_FILE") && KnownVariables.all.contains(String(name.dropLast(5)))
        if name.hasPrefix("METER_TEST") || isFile { continue }
        if !KnownVariables.all.contains(name) { unknown.insert(name) }
      }
    }
    #expect(unknown.isEmpty)
  }
}
