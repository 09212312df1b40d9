import Foundation
import Logging
import Testing

@testable import ServiceRuntime

@Suite struct SettingsPageTests {
  private static let path = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "docs/configuration.md")

  /// `METER_TEST_WRITE=1` writes the page instead of comparing it.
  @Test func `docs/configuration.md says what the programs declare`() throws {
    if ProcessInfo.processInfo.environment["METER_TEST_WRITE"] == "1" {
      try SettingsPage.markdown.write(to: Self.path, atomically: true, encoding: .utf8)
    }
    let page = try String(contentsOf: Self.path, encoding: .utf8)
    #expect(page == SettingsPage.markdown)
  }

  @Test func `docs/embedding.md asks for the version of this build`() throws {
    let guide = Self.path.deletingLastPathComponent().appending(path: "embedding.md")
    let text = try String(contentsOf: guide, encoding: .utf8)
    #expect(text.contains("license-metering\", from: \"\(BuildInfo.version)\")"))
  }

  @Test func `the grace of a close is declared for both programs that close periods`() {
    for program in [ProgramSettings.meteringAPI, .meterctl] {
      #expect(program.help.contains("METER_CLOSE_GRACE=1d"), "\(program)")
    }
  }

  @Test(arguments: ProgramSettings.allCases)
  func `a program declares each of its settings once, and says what it is for`(
    program: ProgramSettings
  ) {
    let names = program.declarations.map(\.name)
    #expect(Set(names).count == names.count)
    for declaration in program.declarations {
      #expect(declaration.help.hasSuffix("."), "\(declaration.name)")
      #expect(program.help.contains(declaration.name))
    }
  }

  @Test func `a declared default lies within what the setting accepts`() throws {
    let declarations = ProgramSettings.allCases.flatMap(\.declarations)
    for declaration in declarations {
      guard let text = declaration.defaultText else { continue }
      #expect(!text.isEmpty, "\(declaration.name)")
    }
    // Each number is read with its default as the given value. A default outside of the range is
    // refused.
    let environment = Dictionary(
      declarations.compactMap { it in it.defaultText.map { (it.name, $0) } },
      uniquingKeysWith: { first, _ in first })
    let settings = Settings(environment: environment)
    #expect(try settings[DeclaredSettings.flushInterval] == 50)
    #expect(try settings[DeclaredSettings.maxEventAge] == 35 * 86_400_000)
    #expect(try settings[DeclaredSettings.webhookRetention] == 90 * 86_400_000)
    #expect(try settings[DeclaredSettings.spoolSync] == "none")
    #expect(try settings[DeclaredSettings.logLevel] == .info)
  }

  @Test func `a word that a setting does not know is refused by its name`() {
    let settings = Settings(environment: ["METER_CLIENT_IP": "everything"])
    #expect {
      try settings[DeclaredSettings.clientIP]
    } throws: {
      "\($0)" == "METER_CLIENT_IP must be one of full, truncated, off"
    }
  }
}
