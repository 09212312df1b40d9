import Licensing

/// Signs a license and verifies it.
@main
struct App {
  struct Failure: Error {}

  static func main() throws {
    guard let key = JSONWebKey.generate(.edDSA, for: .license) else { throw Failure() }
    var keys = JSONWebKeySet()
    try keys.add(key)
    let claims = LicenseClaims(
      licenseID: "lic_abc123", domains: ["example.com"], plan: "professional",
      issuedAt: 1_700_000_000_000, expiresAt: 1_800_000_000_000)
    guard let token = LicenseSigner(keys: keys)?.token(claims) else { throw Failure() }
    let verified = try LicenseVerifier(keys: keys).verify(token)
    guard verified == claims else { throw Failure() }
    print("verified the license \(verified.licenseID)")
  }
}
