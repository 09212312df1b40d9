import LicenseClient

/// Asks a service that is not there.
@main
struct Client {
  static func main() async throws {
    var options = LicenseClientOptions(url: "http://127.0.0.1:9", licenseKey: "lic_abc123")
    options.totalTimeout = .seconds(1)
    let client = try LicenseClient(options)
    let result = await client.validate("app.example.com")
    await client.close()
    print(result.code, result.problem ?? "")
  }
}
