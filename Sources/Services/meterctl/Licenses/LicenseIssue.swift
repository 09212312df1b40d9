import ArgumentParser
import Foundation
import Licensing
import Metering
import PostgresStore

extension License {
  struct Issue: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Sign a registered license's JWT, and print it.",
      discussion: """
        Signs with the license key of METER_SIGNING_KEY (a JWK set; METER_SIGNING_KEY_FILE names its file).

        Example: METER_SIGNING_KEY_FILE=keys.json meterctl license issue lic_abc123
        """)

    @Argument(help: "The license's id.")
    var id: String

    @OptionGroup var output: OutputOptions

    func run() throws {
      let connections = Connections()
      guard let signer = LicenseSigner(keys: try connections.signingKeys()) else {
        throw Failure(
          "METER_SIGNING_KEY has no private key for licenses; meterctl key generate makes one")
      }
      guard
        let row = try AccessStore(connections.database("license-issue")).licenses([Identifier(id)])
          .first
      else {
        throw Failure("there is no such license; meterctl license list shows those there are")
      }
      let claims = LicenseClaims(
        licenseID: row.licenseID, domains: row.domains, plan: row.plan, features: row.features,
        limits: LicenseClaims.limits(ofMeters: row.limits, seats: row.seats),
        issuedAt: row.issuedAt, expiresAt: row.expiresAt, isTrial: row.isTrial)
      guard let token = signer.token(claims) else {
        throw Failure("the license does not fit into a token of 8 KiB: fewer domains or features")
      }
      output.print(["license_id": .text(id), "token": .text(token)], text: token)
    }
  }

  struct Suspend: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Suspend a license: validations are answered suspended within a second.",
      discussion: "Example: meterctl license suspend lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.setStatus("suspended", of: id) }
  }

  struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Let a suspended license hold again.",
      discussion: "Example: meterctl license resume lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.setStatus("active", of: id) }
  }

  struct Cancel: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Cancel a license, for good.",
      discussion: "Example: meterctl license cancel lic_abc123")

    @Argument(help: "The license's id.")
    var id: String

    func run() throws { try License.setStatus("canceled", of: id) }
  }

  private static func setStatus(_ status: String, of id: String) throws {
    switch try LicenseStore(Connections().database("license-status")).setStatus(status, id: id) {
    case nil: throw Failure("there is no such license; meterctl license list shows those there are")
    case "canceled" where status != "canceled":
      throw Failure("the license is canceled, which is for good")
    default: return
    }
  }
}
