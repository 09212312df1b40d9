/// The settings that each program reads, in the order in which a person needs them.
package enum ProgramSettings: String, CaseIterable, Sendable {
  case validationService = "validation-service"
  case usageAggregator = "usage-aggregator"
  case anomalyDetector = "anomaly-detector"
  case webhookDispatcher = "webhook-dispatcher"
  case meteringAPI = "metering-api"
  case meterctl = "meterctl"

  package var declarations: [SettingDeclaration] {
    switch self {
    case .validationService: Self.validation
    case .usageAggregator: Self.consumer(adminPort: 9101) + Self.aggregation
    case .anomalyDetector: Self.consumer(adminPort: 9102) + Self.detection
    case .webhookDispatcher: Self.dispatch
    case .meteringAPI: Self.billing
    case .meterctl: Self.operation
    }
  }

  /// The text for `--help`: each variable with its default, its values, and a sentence.
  package var help: String {
    let lines = declarations.map { it in
      let value = it.defaultText.map { "=\($0)" } ?? (it.isRequired ? " (required)" : "")
      return "  \(it.name)\(value)  \(it.values)\n      \(it.help)"
    }
    return
      "Settings are environment variables. Each may be given as NAME_FILE instead, a file that "
      + "holds the value.\n\n" + lines.joined(separator: "\n")
  }

  private typealias Declared = DeclaredSettings

  private static let telling = [
    Declared.logLevel.declaration, Declared.logFormat.declaration,
    Declared.threadPatience.declaration,
  ]

  private static let tracing = [
    Declared.otlpEndpoint.declaration, Declared.otlpHeaders.declaration,
  ]

  private static let counting = [
    Declared.maxQuantity.declaration, Declared.maxEventAge.declaration,
  ]

  private static func consumer(adminPort: Int) -> [SettingDeclaration] {
    [
      Declared.kafkaBrokers.declaration, Declared.kafkaConfigFile.declaration,
      Declared.databaseURL.declaration, Declared.adminBind(port: adminPort).declaration,
    ] + telling + counting + [
      Declared.dedupeWindow.declaration, Declared.flushInterval.declaration,
      Declared.catchUpFlushInterval.declaration, Declared.maxBatchEntries.declaration,
      Declared.databasePatience.declaration,
    ]
  }

  private static let aggregation = [
    Declared.mergeInterval.declaration, Declared.maxPendingRows.declaration,
  ]

  private static let detection = [
    Declared.domainAllowance.declaration, Declared.detectorLicenses.declaration,
    Declared.checkpointInterval.declaration, Declared.alertMaxAge.declaration,
  ]

  private static let validation: [SettingDeclaration] =
    [
      Declared.databaseURL.declaration, Declared.kafkaBrokers.declaration,
      Declared.kafkaConfigFile.declaration, Declared.signingKey.declaration,
      Declared.spoolDirectory.declaration, Declared.spoolMaxBytes.declaration,
      Declared.spoolSync.declaration, Declared.httpBind(port: 8080).declaration,
      Declared.adminBind(port: 9100).declaration,
    ] + telling + tracing + [
      Declared.tlsCertificate.declaration, Declared.tlsKey.declaration,
      Declared.requestTimeout.declaration, Declared.instance.declaration,
      Declared.requireAPIKey.declaration,
    ]
    + [
      Declared.rateLimit, Declared.anonymousRateLimit, Declared.addressRateLimit,
      Declared.unknownRateLimit,
    ].flatMap { [$0.perSecond.declaration, $0.burst.declaration] } + [
      Declared.maxDelayedRequests.declaration, Declared.maxConnectionsPerAddress.declaration,
      Declared.trustedProxies.declaration, Declared.clientIP.declaration,
    ] + counting + [Declared.licenseCache.declaration]

  private static let dispatch =
    [
      Declared.databaseURL.declaration, Declared.encryptionKey.declaration,
      Declared.adminBind(port: 9103).declaration,
    ] + telling + tracing + [
      Declared.publicURL.declaration, Declared.basePath.declaration,
      Declared.webhookAllowCIDRs.declaration, Declared.webhookAllowHTTP.declaration,
      Declared.webhookCAFile.declaration, Declared.webhookTimeout.declaration,
      Declared.webhookConcurrency.declaration,
      Declared.webhookEndpointConcurrency.declaration, Declared.webhookLease.declaration,
      Declared.webhookPollInterval.declaration, Declared.webhookRetention.declaration,
      Declared.expirySweepInterval.declaration,
    ]

  private static let billing =
    [
      Declared.databaseURL.declaration, Declared.httpBind(port: 8081).declaration,
      Declared.adminBind(port: 9104).declaration, Declared.optionalKafkaBrokers.declaration,
      Declared.kafkaConfigFile.declaration, Declared.optionalSigningKey.declaration,
      Declared.optionalEncryptionKey.declaration,
    ] + telling + [
      Declared.closeGrace.declaration, Declared.publicURL.declaration,
      Declared.basePath.declaration, Declared.portalFrameAncestors.declaration,
      Declared.stripeAPIKey.declaration, Declared.stripeAPIBase.declaration,
      Declared.stripeMeters.declaration, Declared.tlsCertificate.declaration,
      Declared.tlsKey.declaration, Declared.trustedProxies.declaration,
      Declared.requestTimeout.declaration, Declared.maxConnectionsPerAddress.declaration,
      Declared.webhookAllowCIDRs.declaration, Declared.webhookAllowHTTP.declaration,
    ] + counting

  private static let operation =
    [
      Declared.databaseURL.declaration, Declared.kafkaBrokers.declaration,
      Declared.kafkaConfigFile.declaration, Declared.signingKey.declaration,
      Declared.encryptionKey.declaration, Declared.webhookAllowCIDRs.declaration,
      Declared.webhookAllowHTTP.declaration, Declared.closeGrace.declaration,
      Declared.stripeAPIKey.declaration, Declared.stripeAPIBase.declaration,
      Declared.stripeMeters.declaration,
    ] + counting
}

/// Makes docs/configuration.md.
package enum SettingsPage {
  package static var markdown: String {
    let programs = ProgramSettings.allCases.map { program in
      let rows = program.declarations.map {
        "| `\($0.name)` | \($0.shownDefault) | \($0.values) | \($0.help) |"
      }
      return
        "## \(program.rawValue)\n\n| variable | default | values | meaning |\n|---|---|---|---|\n"
        + rows.joined(separator: "\n")
    }
    return introduction + "\n" + programs.joined(separator: "\n\n") + "\n"
  }

  private static let introduction = """
    # Configuration

    Every program reads its settings from environment variables, once, when it starts.

    - Each variable `NAME` may be given as `NAME_FILE` instead, which names a file that holds the value.
      Use this for secrets. A newline at the file's end is ignored.
    - An empty variable counts as absent.
    - A value that is wrong, and a variable that begins with `METER_` and that no program knows, end the
      program with one line that says what to change, and with exit status 78. `meterctl` ends with 2
      for a name that no program knows, and with 3 for a wrong value.
    - Durations have a unit: `250ms`, `10s`, `5m`, `2h` or `35d`.

    This page is made from the programs' own declarations, and a test keeps the two equal. `--help` of
    each program shows the same. A setting that is *required* for `meterctl` is needed only by the
    commands that use it.

    """
}
