// swift-tools-version: 6.2
import PackageDescription

/// Every target of the project is compiled alike; see CONTRIBUTING.md for why each setting is on.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .treatAllWarnings(as: .error),
]

/// For the modules that an event passes through: their small functions are inlined across modules in release builds (measured: a
/// quarter of the time of decoding and counting). Overflow and bounds checks stay on.
let hotPath: [SwiftSetting] = [
  .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release))
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
    .library(name: "EventPublisher", targets: ["EventPublisher"]),
    .library(name: "Licensing", targets: ["Licensing"]),
    .library(name: "Metering", targets: ["Metering"]),
    .library(name: "AnomalyDetection", targets: ["AnomalyDetection"]),
    .library(name: "DomainNames", targets: ["DomainNames"]),
    .library(name: "WebhookDelivery", targets: ["WebhookDelivery"]),
    .executable(name: "dev-broker", targets: ["DevBroker"]),
    .executable(name: "meterctl", targets: ["meterctl"]),
    .executable(name: "Benchmarks", targets: ["Benchmarks"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
    .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-numerics", from: "1.1.1"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
  ],
  targets: [
    // Core: values in, values out.
    .target(name: "Metering", path: "Sources/Core/Metering"),
    .target(name: "JSONText", path: "Sources/Core/JSONText", swiftSettings: hotPath),
    .target(
      name: "EventCodec", dependencies: ["Metering"], path: "Sources/Core/EventCodec",
      swiftSettings: hotPath),
    .target(
      name: "UsageAggregation", dependencies: ["Metering", "EventCodec"],
      path: "Sources/Core/UsageAggregation", swiftSettings: hotPath),
    .target(
      name: "Recount", dependencies: ["Metering", "JSONText"], path: "Sources/Core/Recount"),
    .target(
      name: "Licensing",
      dependencies: [
        "Metering", "JSONText", "EventCodec", .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "CryptoExtras", package: "swift-crypto"),
      ],
      path: "Sources/Core/Licensing", swiftSettings: hotPath),
    .target(
      name: "AnomalyDetection",
      dependencies: ["Metering", .product(name: "RealModule", package: "swift-numerics")],
      path: "Sources/Core/AnomalyDetection"),
    .target(
      name: "WebhookDelivery",
      dependencies: ["Metering", "JSONText", .product(name: "Crypto", package: "swift-crypto")],
      path: "Sources/Core/WebhookDelivery"),
    .target(
      name: "BillingPages",
      dependencies: ["Metering", .product(name: "Mustache", package: "swift-mustache")],
      path: "Sources/Core/BillingPages",
      resources: [.embedInCode("Templates"), .embedInCode("Assets")]),
    .target(
      name: "Billing",
      dependencies: [
        "Metering", "JSONText", "Licensing", .product(name: "Crypto", package: "swift-crypto"),
      ],
      path: "Sources/Core/Billing"),

    // IO: the only effects.
    .target(name: "CChecksum", path: "Sources/IO/CChecksum"),
    .systemLibrary(
      name: "CRdKafka", path: "Sources/IO/CRdKafka", pkgConfig: "rdkafka",
      providers: [.apt(["librdkafka-dev"])]),
    .systemLibrary(
      name: "CLibPQ", path: "Sources/IO/CLibPQ", pkgConfig: "libpq",
      providers: [.apt(["libpq-dev"])]),
    .systemLibrary(
      name: "CLibPSL", path: "Sources/IO/CLibPSL", pkgConfig: "libpsl",
      providers: [.apt(["libpsl-dev"])]),
    .systemLibrary(
      name: "CLibIDN2", path: "Sources/IO/CLibIDN2", pkgConfig: "libidn2",
      providers: [.apt(["libidn2-dev"])]),
    .target(
      name: "DomainNames", dependencies: ["CLibPSL", "CLibIDN2", "Licensing"],
      path: "Sources/IO/DomainNames"),
    .target(
      name: "KafkaTransport", dependencies: ["CRdKafka"], path: "Sources/IO/KafkaTransport",
      swiftSettings: hotPath),
    .target(
      name: "PostgresStore", dependencies: ["CLibPQ", "Metering"], path: "Sources/IO/PostgresStore",
      exclude: ["Schema"], resources: [.embedInCode("Migrations")]),
    .target(
      name: "ServiceRuntime",
      dependencies: [
        "Metering",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      path: "Sources/IO/ServiceRuntime"),

    // Services: IO wired to Core.
    .target(
      name: "Administration",
      dependencies: [
        "Billing", "Metering", "JSONText", "Licensing", "DomainNames", "WebhookDelivery",
        "PostgresStore", "KafkaTransport", "ServiceRuntime",
        .product(name: "Crypto", package: "swift-crypto"),
      ],
      path: "Sources/Services/Administration"),
    .target(
      name: "EventPublisher",
      dependencies: [
        "CChecksum", "Metering", "KafkaTransport", .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/EventPublisher", swiftSettings: hotPath),
    .target(
      name: "LogConsumer",
      dependencies: [
        "Metering", "EventCodec", "UsageAggregation", "KafkaTransport", "PostgresStore",
        "ServiceRuntime", .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/LogConsumer"),
    .target(
      name: "LogAudit", dependencies: ["Metering", "Recount", "KafkaTransport", "PostgresStore"],
      path: "Sources/Services/LogAudit"),
    .executableTarget(
      name: "UsageAggregator",
      dependencies: [
        "LogConsumer", "EventCodec", "UsageAggregation", "KafkaTransport", "Metering",
        "PostgresStore", "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/UsageAggregator"),
    .executableTarget(
      name: "AnomalyDetector",
      dependencies: [
        "LogConsumer", "AnomalyDetection", "EventCodec", "UsageAggregation", "Metering", "JSONText",
        "KafkaTransport", "Licensing", "DomainNames", "PostgresStore", "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/AnomalyDetector"),
    .executableTarget(
      name: "ValidationService",
      dependencies: [
        "Metering", "JSONText", "EventCodec", "Licensing", "DomainNames", "PostgresStore",
        "EventPublisher", "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOExtras", package: "swift-nio-extras"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "NIOTLS", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/ValidationService", resources: [.embedInCode("openapi.yaml")],
      swiftSettings: hotPath),
    .executableTarget(
      name: "WebhookDispatcher",
      dependencies: [
        "Metering", "WebhookDelivery", "PostgresStore", "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/WebhookDispatcher"),
    .executableTarget(
      name: "MeteringAPI",
      dependencies: [
        "Administration", "Billing", "BillingPages", "Metering", "JSONText", "Licensing",
        "DomainNames", "WebhookDelivery", "PostgresStore", "KafkaTransport", "LogAudit", "Recount",
        "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "HummingbirdCore", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOHTTPCompression", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
        .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ],
      path: "Sources/Services/MeteringAPI",
      resources: [.embedInCode("openapi.yaml")]),
    .executableTarget(
      name: "DevBroker",
      dependencies: [
        "KafkaTransport", "ServiceRuntime",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Services/DevBroker"),
    .executableTarget(
      name: "meterctl",
      dependencies: [
        "Metering", "JSONText", "Recount", "KafkaTransport", "PostgresStore", "ServiceRuntime",
        "Administration", "AnomalyDetection", "Billing", "WebhookDelivery", "Licensing",
        "DomainNames", "EventPublisher", "UsageAggregation", "LogAudit", "Yams",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Sources/Services/meterctl", resources: [.embedInCode("Topics/Defaults")]),
    .target(name: "CAllocationCount", path: "Sources/Services/CAllocationCount"),
    .executableTarget(
      name: "Benchmarks",
      dependencies: [
        "KafkaTransport", "PostgresStore", "EventCodec", "UsageAggregation", "WebhookDelivery",
        "Metering", "MeteringTestKit", "EventPublisher", "Licensing", "CAllocationCount",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "AsyncHTTPClient", package: "async-http-client"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ],
      path: "Sources/Services/Benchmarks"),

    // Tests.
    .target(
      name: "MeteringTestKit", dependencies: ["KafkaTransport", "PostgresStore"],
      path: "Tests/MeteringTestKit"),
    .testTarget(
      name: "EventCodecTests",
      dependencies: ["EventCodec", "Metering", "JSONText", "Recount", "MeteringTestKit"]),
    .testTarget(
      name: "UsageAggregationTests",
      dependencies: ["UsageAggregation", "EventCodec", "Metering", "Recount", "MeteringTestKit"]),
    .testTarget(name: "RecountTests", dependencies: ["Recount", "Metering", "JSONText"]),
    .testTarget(name: "BillingPagesTests", dependencies: ["BillingPages", "Metering"]),
    .testTarget(
      name: "KafkaTransportTests", dependencies: ["KafkaTransport", "MeteringTestKit"]),
    .testTarget(
      name: "PostgresStoreTests", dependencies: ["Metering", "PostgresStore", "MeteringTestKit"]),
    .testTarget(
      name: "AdministrationTests",
      dependencies: [
        "Administration", "JSONText", "Licensing", "Metering", "PostgresStore", "WebhookDelivery",
        "MeteringTestKit", "meterctl",
      ]),
    .testTarget(
      name: "ServiceRuntimeTests",
      dependencies: [
        "ServiceRuntime", "MeteringTestKit", .product(name: "Logging", package: "swift-log"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
      ]),
    .testTarget(
      name: "LogConsumerTests",
      dependencies: [
        "LogConsumer", "KafkaTransport", "ServiceRuntime",
        .product(name: "Logging", package: "swift-log"),
      ]),
    .testTarget(
      name: "AnomalyDetectionTests",
      dependencies: ["AnomalyDetection", "Metering", "MeteringTestKit"]),
    .testTarget(
      name: "WebhookDeliveryTests",
      dependencies: [
        "Metering", "WebhookDelivery", "MeteringTestKit",
        .product(name: "Crypto", package: "swift-crypto"),
      ]),
    .executableTarget(
      name: "publish-probe",
      dependencies: ["EventPublisher", .product(name: "Logging", package: "swift-log")],
      path: "Tests/PublishProbe"),
    .testTarget(
      name: "EventPublisherTests",
      dependencies: [
        "EventPublisher", "publish-probe", "CChecksum", "Recount", "EventCodec", "Metering",
        "KafkaTransport",
        "MeteringTestKit", .product(name: "Logging", package: "swift-log"),
      ]),
    .testTarget(
      name: "LicensingTests",
      dependencies: [
        "Licensing", "DomainNames", "Metering", "JSONText", "MeteringTestKit",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "CryptoExtras", package: "swift-crypto"),
      ]),
    .testTarget(
      name: "ValidationServiceTests",
      dependencies: [
        "ValidationService", "DomainNames", "Licensing", "KafkaTransport", "PostgresStore",
        "MeteringTestKit", "Metering", "ServiceRuntime", "meterctl",
        .product(name: "Logging", package: "swift-log"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    .testTarget(name: "BillingTests", dependencies: ["Billing", "Metering", "JSONText"]),
    .testTarget(
      name: "MeteringAPITests",
      dependencies: [
        "MeteringAPI", "Billing", "Metering", "JSONText", "Licensing", "PostgresStore",
        "KafkaTransport", "ServiceRuntime", "MeteringTestKit", "UsageAggregator", "DevBroker",
        "meterctl", .product(name: "NIOCore", package: "swift-nio"),
      ], exclude: ["Browser"]),
    .testTarget(
      name: "WebhookDispatcherTests",
      dependencies: [
        "WebhookDispatcher", "UsageAggregator", "Metering", "WebhookDelivery", "PostgresStore",
        "ServiceRuntime", "MeteringTestKit", "meterctl",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOSSL", package: "swift-nio-ssl"),
      ]),
    .target(
      name: "FuzzTargets",
      dependencies: [
        "EventCodec", "Metering", "Recount", "WebhookDelivery", "Licensing", "DomainNames",
      ],
      path: "Tests/FuzzTargets"),
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "FuzzTargets", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      path: "Tests/Fuzz"),
    .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets", "fuzz"], exclude: ["Corpus"]),
    .testTarget(
      name: "IntegrationTests",
      dependencies: [
        "KafkaTransport", "PostgresStore", "MeteringTestKit", "UsageAggregator", "AnomalyDetector",
        "DevBroker", "meterctl", "ValidationService", "WebhookDispatcher", "MeteringAPI",
      ]),
  ]
)
for target in package.targets
where !["CChecksum", "CAllocationCount"].contains(target.name)
  && ![.system, .plugin, .binary].contains(target.type)
{
  target.swiftSettings = (target.swiftSettings ?? []) + settings
}
