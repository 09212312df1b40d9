// swift-tools-version: 6.2
import PackageDescription

let repository = "license-metering"

let package = Package(
  name: "App",
  dependencies: [.package(url: Context.environment["METER_REPOSITORY"] ?? "", from: "1.0.0")],
  targets: [
    .executableTarget(
      name: "App", dependencies: [.product(name: "Licensing", package: repository)])
  ]
)
// It takes minutes, as swift-nio and its TLS are compiled for it.
if Context.environment["METER_TEST_FOREIGN"] == "1" {
  package.targets.append(
    .executableTarget(
      name: "Client", dependencies: [.product(name: "LicenseClient", package: repository)]))
}
