// swift-tools-version: 6.2
import PackageDescription

/// The settings of every target. CONTRIBUTING.md says why each one is on.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]

/// The modules that an event passes through. Their small functions are inlined across modules in release builds, which saves a
/// quarter of the time of decoding and counting. Checks of overflow and of bounds stay on. SwiftPM accepts a package with unsafe flags
/// as a versioned dependency only if the tools version above is 6.2 or newer. sdks/swift/test checks that.
let hotPath: Set = [
  "JSONText", "EventCodec", "UsageAggregation", "Licensing", "KafkaTransport", "EventPublisher",
  "HTTPListening", "ValidationService",
]

let arguments: Target.Dependency = .product(
  name: "ArgumentParser", package: "swift-argument-parser")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "CryptoExtras", package: "swift-crypto")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let lifecycle: Target.Dependency = .product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let tracing: Target.Dependency = .product(
  name: "Tracing", package: "swift-distributed-tracing")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")

/// A module of `Sources/<floor>`; `main` makes it an executable.
func module(
  _ floor: String, _ name: String, _ dependencies: [Target.Dependency] = [], main: Bool = false,
  exclude: [String] = [], resources: [Resource] = []
) -> Target {
  let path = "Sources/\(floor)/\(name)"
  return main
    ? .executableTarget(
      name: name, dependencies: dependencies, path: path, exclude: exclude, resources: resources)
    : .target(
      name: name, dependencies: dependencies, path: path, exclude: exclude, resources: resources)
}

/// A C library of the system, found by pkg-config and installed as Debian's `package`.
func library(_ name: String, pkgConfig: String) -> Target {
  .systemLibrary(
    name: name, path: "Sources/IO/\(name)", pkgConfig: pkgConfig,
    providers: [.apt(["lib\(pkgConfig.replacing("lib", with: ""))-dev"])])
}

// Pure code: values in, values out.
let core: [Target] = [
  module("Core", "Metering"),
  module("Core", "JSONText", ["Metering"]),
  module("Core", "EventCodec", ["Metering"]),
  module("Core", "UsageAggregation", ["Metering", "EventCodec"]),
  module("Core", "Recount", ["Metering", "JSONText"]),
  module("Core", "Licensing", ["Metering", "JSONText", "EventCodec", crypto, cryptoExtras]),
  module(
    "Core", "AnomalyDetection",
    ["Metering", .product(name: "RealModule", package: "swift-numerics")]),
  module("Core", "WebhookDelivery", ["Metering", "JSONText", crypto]),
  module("Core", "Billing", ["Metering", "JSONText", "Licensing", crypto]),
  module(
    "Core", "BillingPages", ["Metering", .product(name: "Mustache", package: "swift-mustache")],
    resources: [.embedInCode("Templates"), .embedInCode("Assets")]),
]

// The only code with side effects.
let io: [Target] = [
  module("IO", "CChecksum"),
  library("CRdKafka", pkgConfig: "rdkafka"),
  library("CLibPQ", pkgConfig: "libpq"),
  library("CLibPSL", pkgConfig: "libpsl"),
  library("CLibIDN2", pkgConfig: "libidn2"),
  module("IO", "DomainNames", ["CLibPSL", "CLibIDN2", "Licensing"]),
  module("IO", "SystemRandom", ["Metering"]),
  module("IO", "KafkaTransport", ["CRdKafka"]),
  module(
    "IO", "PostgresStore", ["CLibPQ", "Metering"], exclude: ["Schema"],
    resources: [.embedInCode("Migrations")]),
  module("IO", "ServiceRuntime", ["Metering", logging, lifecycle, nioCore, nioPosix]),
]

// IO combined with Core, without a main function.
let libraries: [Target] = [
  module(
    "Libraries", "EventPublisher",
    ["CChecksum", "Metering", "SystemRandom", "KafkaTransport", logging, lifecycle]),
  module(
    "Libraries", "LicenseClient",
    [
      "Metering", "JSONText", "Licensing", "WebhookDelivery", "DomainNames", "SystemRandom",
      crypto, nioCore, nioPosix, nioSSL, nioTLS,
    ]),
  module(
    "Libraries", "LicenseClientHummingbird",
    [
      "LicenseClient", nioCore, .product(name: "HTTPTypes", package: "swift-http-types"),
      .product(name: "Hummingbird", package: "hummingbird"),
    ]),
  module(
    "Libraries", "LogConsumer",
    [
      "Metering", "EventCodec", "UsageAggregation", "KafkaTransport", "PostgresStore",
      "ServiceRuntime", "SystemRandom", logging, lifecycle,
    ]),
  module(
    "Libraries", "HTTPListening", ["Metering", "ServiceRuntime", nioCore, nioSSL]),
  module(
    "Libraries", "TraceExport",
    [
      "Metering", "JSONText", "ServiceRuntime", "SystemRandom", tracing, logging, lifecycle,
      nioCore,
      nioHTTP1,
      .product(name: "AsyncHTTPClient", package: "async-http-client"),
    ]),
  module(
    "Libraries", "LogAudit",
    ["Metering", "JSONText", "Recount", "KafkaTransport", "PostgresStore"]),
  module(
    "Libraries", "Administration",
    [
      "Billing", "Metering", "JSONText", "Licensing", "DomainNames", "WebhookDelivery",
      "PostgresStore", "KafkaTransport", "ServiceRuntime", "SystemRandom", crypto,
    ]),
  module(
    "Libraries", "StripeExport",
    [
      "Billing", "Metering", "JSONText", "WebhookDelivery", "PostgresStore", "ServiceRuntime",
      nioCore, nioPosix, nioSSL,
    ]),
]

// The services, which run until they are stopped.
let services: [Target] = [
  module(
    "Services", "UsageAggregator",
    [
      "LogConsumer", "EventCodec", "UsageAggregation", "Metering", "PostgresStore",
      "ServiceRuntime", arguments, logging,
    ], main: true),
  module(
    "Services", "AnomalyDetector",
    [
      "LogConsumer", "AnomalyDetection", "EventCodec", "UsageAggregation", "Metering", "JSONText",
      "KafkaTransport", "Licensing", "DomainNames", "PostgresStore", "ServiceRuntime",
      "SystemRandom", arguments, logging,
    ], main: true),
  module(
    "Services", "ValidationService",
    [
      "Metering", "JSONText", "EventCodec", "Licensing", "DomainNames", "PostgresStore",
      "EventPublisher", "HTTPListening", "ServiceRuntime", "SystemRandom", "TraceExport", tracing,
      arguments, crypto,
      logging, nioCore, nioHTTP1, nioPosix, nioSSL, nioTLS, lifecycle,
      .product(name: "NIOExtras", package: "swift-nio-extras"),
    ], main: true, resources: [.embedInCode("openapi.yaml")]),
  module(
    "Services", "WebhookDispatcher",
    [
      "Metering", "WebhookDelivery", "PostgresStore", "ServiceRuntime", "TraceExport", tracing,
      arguments, logging, nioCore, nioPosix, nioSSL, lifecycle,
    ], main: true),
  module(
    "Services", "MeteringAPI",
    [
      "Administration", "Billing", "BillingPages", "Metering", "JSONText", "Licensing",
      "WebhookDelivery", "PostgresStore", "KafkaTransport", "LogAudit", "Recount",
      "HTTPListening", "ServiceRuntime", "StripeExport", "SystemRandom", arguments, crypto, logging,
      nioCore,
      nioHTTP1, nioPosix, nioSSL, nioTLS, lifecycle,
      .product(name: "HTTPTypes", package: "swift-http-types"),
      .product(name: "HummingbirdCore", package: "hummingbird"),
      .product(name: "NIOHTTPCompression", package: "swift-nio-extras"),
      .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
      .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
    ], main: true, resources: [.embedInCode("openapi.yaml")]),
]

// Tools that people run. Only tests import them.
let tools: [Target] = [
  module(
    "Tools", "DevBroker", ["Metering", "KafkaTransport", "ServiceRuntime", arguments], main: true),
  module(
    "Tools", "meterctl",
    [
      "Metering", "JSONText", "Recount", "KafkaTransport", "PostgresStore", "ServiceRuntime",
      "Administration", "AnomalyDetection", "Billing", "WebhookDelivery", "Licensing",
      "DomainNames", "EventPublisher", "UsageAggregation", "LogAudit", "StripeExport",
      "SystemRandom", "Yams", arguments, logging,
    ], main: true, resources: [.embedInCode("Topics/Defaults")]),
  module("Tools", "CAllocationCount"),
  module(
    "Tools", "Benchmarks",
    [
      "KafkaTransport", "PostgresStore", "UsageAggregation", "WebhookDelivery",
      "Metering", "MeteringTestKit", "EventPublisher", "Licensing", "CAllocationCount", arguments,
      logging, nioCore, nioHTTP1, nioPosix,
      .product(name: "Hummingbird", package: "hummingbird"),
      .product(name: "AsyncHTTPClient", package: "async-http-client"),
    ], main: true),
]

let tests: [Target] = [
  .target(
    name: "MeteringTestKit",
    dependencies: ["CRdKafka", "Metering", "KafkaTransport", "PostgresStore"],
    path: "Tests/MeteringTestKit"),
  .target(
    name: "FuzzTargets",
    dependencies: [
      "EventCodec", "Metering", "Recount", "WebhookDelivery", "Licensing", "DomainNames",
    ], path: "Tests/FuzzTargets"),
  .executableTarget(
    name: "fuzz", dependencies: ["FuzzTargets", arguments], path: "Tests/Fuzz"),
  .executableTarget(
    name: "publish-probe", dependencies: ["EventPublisher", logging], path: "Tests/PublishProbe"),
  .executableTarget(
    name: "license-client-conformance",
    dependencies: [
      "LicenseClient", "LicenseClientHummingbird", "Licensing", "DomainNames", "JSONText",
      "Metering",
      logging, nioCore, .product(name: "HTTPTypes", package: "swift-http-types"),
      .product(name: "Hummingbird", package: "hummingbird"),
    ], path: "Tests/LicenseClientConformance"),
  .testTarget(name: "MeteringTests", dependencies: ["Metering", "SystemRandom"]),
  .testTarget(
    name: "EventCodecTests",
    dependencies: ["EventCodec", "Metering", "JSONText", "Recount", "MeteringTestKit"]),
  .testTarget(
    name: "UsageAggregationTests",
    dependencies: ["UsageAggregation", "EventCodec", "Metering", "Recount", "MeteringTestKit"]),
  .testTarget(name: "RecountTests", dependencies: ["Recount", "Metering", "JSONText"]),
  .testTarget(
    name: "AnomalyDetectionTests",
    dependencies: ["AnomalyDetection", "Metering", "MeteringTestKit"]),
  .testTarget(
    name: "LicensingTests",
    dependencies: [
      "Licensing", "DomainNames", "Metering", "JSONText", crypto, cryptoExtras,
    ]),
  .testTarget(
    name: "WebhookDeliveryTests",
    dependencies: ["Metering", "WebhookDelivery", "MeteringTestKit", crypto]),
  .testTarget(
    name: "LicenseClientTests",
    dependencies: ["LicenseClient", "Licensing", "DomainNames", "MeteringTestKit"]),
  .testTarget(name: "BillingTests", dependencies: ["Billing", "Metering"]),
  .testTarget(
    name: "StripeExportTests",
    dependencies: [
      "StripeExport", "Billing", "Metering", "PostgresStore", "ServiceRuntime",
      "MeteringTestKit", "meterctl", "MeteringAPI", nioCore, nioSSL,
    ], exclude: ["Stripe"]),
  .testTarget(name: "BillingPagesTests", dependencies: ["BillingPages", "Metering"]),
  .testTarget(
    name: "KafkaTransportTests", dependencies: ["KafkaTransport", "MeteringTestKit"]),
  .testTarget(
    name: "PostgresStoreTests", dependencies: ["Metering", "PostgresStore", "MeteringTestKit"]),
  .testTarget(
    name: "ServiceRuntimeTests",
    dependencies: ["ServiceRuntime", "MeteringTestKit", logging, lifecycle]),
  .testTarget(
    name: "EventPublisherTests",
    dependencies: [
      "EventPublisher", "publish-probe", "CChecksum", "Recount", "EventCodec", "Metering",
      "KafkaTransport", "MeteringTestKit", logging,
    ]),
  .testTarget(
    name: "LogConsumerTests",
    dependencies: [
      "LogConsumer", "UsageAggregation", "KafkaTransport", "PostgresStore", "ServiceRuntime",
      "MeteringTestKit", logging,
    ]),
  .testTarget(
    name: "HTTPListeningTests",
    dependencies: [
      "HTTPListening", "Metering", nioCore, .product(name: "NIOEmbedded", package: "swift-nio"),
    ]),
  .testTarget(
    name: "TraceExportTests",
    dependencies: [
      "TraceExport", "Metering", "JSONText", "ServiceRuntime", "MeteringTestKit", tracing, logging,
      lifecycle,
    ]),
  .testTarget(name: "LogAuditTests", dependencies: ["LogAudit"]),
  .testTarget(name: "TidyTests", dependencies: [crypto], exclude: ["migrations.sha256"]),
  .testTarget(name: "MeterctlTests", dependencies: ["meterctl"]),
  .testTarget(
    name: "AdministrationTests",
    dependencies: [
      "Administration", "JSONText", "Licensing", "Metering", "PostgresStore", "SystemRandom",
      "WebhookDelivery", "MeteringTestKit", "meterctl",
    ]),
  .testTarget(
    name: "ValidationServiceTests",
    dependencies: [
      "ValidationService", "DomainNames", "Licensing", "KafkaTransport", "PostgresStore",
      "MeteringTestKit", "Metering", "HTTPListening", "ServiceRuntime", "meterctl", logging,
      nioCore,
      nioHTTP1,
    ]),
  .testTarget(
    name: "MeteringAPITests",
    dependencies: [
      "MeteringAPI", "HTTPListening", "Billing", "Metering", "JSONText", "Licensing", "LogAudit",
      "PostgresStore", "EventPublisher", "Recount",
      "KafkaTransport", "ServiceRuntime", "MeteringTestKit", "UsageAggregator", "DevBroker",
      "meterctl", logging, nioCore,
      .product(name: "HTTPTypes", package: "swift-http-types"),
    ], exclude: ["Browser", "GeneratedClient"]),
  .testTarget(
    name: "WebhookDispatcherTests",
    dependencies: [
      "WebhookDispatcher", "UsageAggregator", "Metering", "WebhookDelivery", "PostgresStore",
      "ServiceRuntime", "MeteringTestKit", "meterctl", nioCore, nioPosix, nioHTTP1, nioSSL,
    ]),
  .testTarget(name: "UsageAggregatorTests", dependencies: ["UsageAggregator", "ServiceRuntime"]),
  .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets", "fuzz"], exclude: ["Corpus"]),
  .testTarget(
    name: "IntegrationTests",
    dependencies: [
      "KafkaTransport", "PostgresStore", "MeteringTestKit", "UsageAggregator", "AnomalyDetector",
      "DevBroker", "meterctl", "ValidationService", "WebhookDispatcher", "MeteringAPI",
    ]),
]

let package = Package(
  name: "license-metering",
  platforms: [.macOS(.v15)],
  products: [
    .executable(name: "usage-aggregator", targets: ["UsageAggregator"]),
    .executable(name: "anomaly-detector", targets: ["AnomalyDetector"]),
    .executable(name: "validation-service", targets: ["ValidationService"]),
    .executable(name: "webhook-dispatcher", targets: ["WebhookDispatcher"]),
    .executable(name: "metering-api", targets: ["MeteringAPI"]),
    .executable(name: "dev-broker", targets: ["DevBroker"]),
    .executable(name: "meterctl", targets: ["meterctl"]),
    .executable(name: "Benchmarks", targets: ["Benchmarks"]),
    .library(name: "EventPublisher", targets: ["EventPublisher"]),
    .library(name: "LicenseClient", targets: ["LicenseClient"]),
    .library(name: "LicenseClientHummingbird", targets: ["LicenseClientHummingbird"]),
    .library(name: "Licensing", targets: ["Licensing"]),
    .library(name: "Metering", targets: ["Metering"]),
    .library(name: "AnomalyDetection", targets: ["AnomalyDetection"]),
    .library(name: "DomainNames", targets: ["DomainNames"]),
    .library(name: "WebhookDelivery", targets: ["WebhookDelivery"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.3"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.1"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
  ],
  targets: core + io + libraries + services + tools + tests
)
for target in package.targets
where !["CChecksum", "CAllocationCount"].contains(target.name) && target.type != .system {
  var flags = settings
  if hotPath.contains(target.name) {
    flags.append(.unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)))
  }
  target.swiftSettings = flags
}
