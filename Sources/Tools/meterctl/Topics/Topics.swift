import ArgumentParser
import KafkaTransport

struct Topics: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Manage the cluster's topics, and deal with changes of the log.",
    discussion: "Example: meterctl topics diff || meterctl topics apply",
    subcommands: [
      Apply.self, Diff.self, Export.self, Grow.self, NewEpoch.self, AcceptGap.self,
    ])
}

/// The options that `apply` and `diff` share.
struct TopicFiles: ParsableArguments {
  @Option(
    name: [.customLong("folder"), .customLong("dir")],
    help: ArgumentHelp(
      "The folder of the topics' YAML files (default: ./topics if it exists, otherwise the files "
        + "that are built into the program).", valueName: "folder"))
  var folder: String?

  @Option(
    help: ArgumentHelp(
      "The copies of every partition, instead of the files' number, for clusters with fewer "
        + "brokers. min.insync.replicas is lowered to it.", valueName: "n"))
  var replication: Int?

  func validate() throws {
    if let replication, !(1...32).contains(replication) {
      throw ValidationError("--replication must be from 1 to 32")
    }
  }

  func specs() throws -> [TopicSpec] {
    var specs = try TopicSpec.all(folder: folder)
    if let replication { for i in specs.indices { specs[i].useReplication(replication) } }
    return specs
  }

  static let noSettings = """
    this broker does not show its topics' settings (dev-broker does not): only partitions were \
    compared
    """
}

/// The topics of the cluster, compared with those of the files.
private struct Survey {
  /// What has to be changed.
  var differences: [TopicDifference] = []
  /// Topics that have been doubled since they were made, which is fine.
  var grown: [TopicDifference] = []
  /// Topics whose settings the broker does not show.
  var untold: [String] = []

  init(_ specs: [TopicSpec], _ admin: KafkaAdmin) throws {
    for spec in specs {
      let found = try admin.describeTopic(spec.name)
      if let found, found.config == nil { untold.append(spec.name) }
      let all = TopicDifference.all(spec, found)
      differences += all.filter { $0.remedy != .nothing }
      grown += all.filter { $0.remedy == .nothing }
    }
  }

  func note() {
    if !untold.isEmpty { Terminal.error("note: " + TopicFiles.noSettings) }
    for topic in grown { Terminal.error("note: " + topic.text) }
  }
}

extension Topics {
  struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show how the cluster's topics differ from topics/*.yaml. Exit with 1 if they do.",
      discussion: "This changes nothing.\n\nExample: meterctl topics diff --json")

    @OptionGroup var files: TopicFiles
    @OptionGroup var output: OutputOptions

    func run() throws {
      let specs = try files.specs()
      let admin = try Connections().admin("topics")
      let survey = try Survey(specs, admin)
      survey.note()
      output.print(
        [
          "differences": .array(survey.differences.map(\.json)),
          "grown": .array(survey.grown.map(\.json)),
          "settings_unknown": .array(survey.untold.map { .text($0) }),
        ],
        text: survey.differences.isEmpty
          ? "\(specs.count) topics match their files"
          : survey.differences.map(\.text).joined(separator: "\n"))
      if !survey.differences.isEmpty { throw Ending.difference }
    }
  }

  struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Create missing topics and change settings that differ from topics/*.yaml.",
      discussion: """
        Settings that the files do not name are left alone. The command never changes a number of \
        partitions or of copies. It says what to do, and exits with status 3. A topic that has \
        been doubled since is as it should be. dev-broker creates \
        its topics itself and accepts no settings, so existing topics with the right number of \
        partitions are fine.

        On a cluster with fewer brokers than the files' number of copies, use --replication.

        Example: meterctl topics apply --replication 1
        """)

    @OptionGroup var files: TopicFiles
    @OptionGroup var output: OutputOptions

    func run() throws {
      let specs = try files.specs()
      let admin = try Connections().admin("topics")
      let survey = try Survey(specs, admin)
      var changed: [String] = []
      for spec in specs {
        let own = survey.differences.filter { $0.topic == spec.name }
        if own.contains(where: { $0.remedy == .create }) {
          try create(spec, admin)
          changed.append("created \(spec.name) with \(spec.partitions) partitions")
          continue
        }
        let settings = own.filter { $0.remedy == .alter }
        guard !settings.isEmpty else { continue }
        try admin.alterConfig(spec.name, settings.map { ($0.property, $0.wanted) })
        changed += settings.map {
          "\($0.topic): \($0.property) is now \($0.wanted), was \($0.found ?? "not set")"
        }
      }
      let refused = survey.differences.filter { $0.remedy == .byHand }
      survey.note()
      let told = changed.isEmpty ? ["nothing to change in \(specs.count) topics"] : changed
      output.print(
        [
          "changed": .array(changed.map { .text($0) }),
          "refused": .array(refused.map(\.json)),
          "grown": .array(survey.grown.map(\.json)),
          "settings_unknown": .array(survey.untold.map { .text($0) }),
        ],
        text: told.joined(separator: "\n"))
      if !refused.isEmpty { throw Failure(refused.map(\.text).joined(separator: "\n")) }
    }

    private func create(_ spec: TopicSpec, _ admin: KafkaAdmin) throws {
      do throws(KafkaError) {
        try admin.createTopic(
          spec.name, partitions: spec.partitions, replication: spec.replication,
          config: spec.config.map { ($0.name, $0.value) })
      } catch {
        // Another operator was faster. `diff` shows whether the topic is as wanted.
        if error.isTopicAlreadyThere { return }
        // This is not `catch where`, because Swift 6.3.1 crashes on it after a typed `do`.
        if error.isReplicationRefused {
          throw Failure(
            """
            \(spec.name) wants \(spec.replication) copies of every partition, and the cluster has \
            fewer brokers (\(error.detail)); run: meterctl topics apply --replication 1, or as many \
            as there are brokers
            """)
        }
        guard error.isUnsupported else { throw error }
        throw Failure(
          """
          \(spec.name) is missing, and this broker cannot create topics by request. dev-broker \
          makes those of its --topics-dir when it starts: start it with a folder of these files
          """)
      }
    }
  }
}
