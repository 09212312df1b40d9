import Administration
import ArgumentParser

extension License {
  struct Issue: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Sign the JWT of a registered license and print it.",
      discussion: """
        Signs with the license key in METER_SIGNING_KEY (a JWK set; METER_SIGNING_KEY_FILE names \
        its file).

        Example: METER_SIGNING_KEY_FILE=keys.json meterctl license issue lic_abc123
        """)

    @Argument(help: "The license's id.")
    var id: String

    @OptionGroup var output: OutputOptions

    func run() throws {
      let connections = Connections()
      let keys = try connections.signingKeys()
      let token = try License.changing {
        try connections.administrator("license-issue").issueLicense(id, keys: keys)
      }
      output.print(["license_id": .text(id), "token": .text(token)], text: token)
    }
  }

  struct Suspend: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Suspend a license. Validations say so within a second.",
      discussion: "Example: meterctl license suspend lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.set(id, .suspend) }
  }

  struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a suspended license valid again.",
      discussion: "Example: meterctl license resume lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.set(id, .resume) }
  }

  struct Cancel: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Cancel a license. This cannot be undone.",
      discussion: "Example: meterctl license cancel lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.set(id, .cancel) }
  }

  private static func set(_ id: String, _ step: Administrator.LicenseStep) throws {
    _ = try changing {
      try Connections().administrator("license-status").setLicense(id, step)
    }
  }

  /// Runs a change. If the license does not exist, the error says where to look.
  static func changing<T>(_ body: () throws -> T) throws -> T {
    do {
      return try body()
    } catch let refusal as AdministrationRefusal where refusal.kind == .notFound {
      throw Failure("\(refusal); see: meterctl license list")
    }
  }
}
