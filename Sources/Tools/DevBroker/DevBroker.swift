import ArgumentParser
import Foundation
import KafkaTransport
import ServiceRuntime

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The embedded broker for one machine, which is librdkafka's own mock cluster in this process.
@main
struct DevBroker: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dev-broker",
    abstract: "A Kafka broker for one machine: to try things out, never to bill from.",
    discussion: """
      Runs librdkafka's own mock cluster in this process, with the topics of the topics folder \
      created. The first line on stdout is the brokers' addresses, host:port,… (127.0.0.1, ports \
      that the system picks: librdkafka 2.0.2 cannot be told which); the ready file holds the \
      same. Runs until SIGTERM or SIGINT, then exits 0.

      What it does not do:
        - keep anything on disk: every start is an empty log (begin a new epoch with
          `meterctl topics new-epoch`);
        - keep more than 5 MB of compressed batches a partition: the oldest are dropped, and a
          consumer that has not read them stops there. The limit is fixed in librdkafka 2.0.2;
        - CreateTopics, DescribeConfigs, AlterConfigs: they fail as unsupported. A topic that is
          missing is made by whoever writes to it or asks for it, with 4 partitions;
        - look offsets up by time: it answers -1, the end. Never take that for an answer;
        - drop an idempotent producer's retries after a cut connection: they can be stored twice.
      """,
    version: BuildInfo.line("dev-broker"))

  @Option(help: "How many brokers, 1 to 16.")
  var brokers = 1

  @Option(
    help: ArgumentHelp(
      "Folder of the topics' YAML files.",
      discussion: "Without it: license.usage.v1 and license.validations.v1 with 64 partitions, "
        + "license.dead-letter.v1 with 8.",
      valueName: "path"))
  var topicsDir = "topics"

  @Option(
    help: ArgumentHelp("Written once the brokers listen, removed at the end.", valueName: "path"))
  var readyFile: String?

  func validate() throws {
    guard (1...16).contains(brokers) else { throw ValidationError("--brokers: 1 to 16") }
  }

  func run() throws {
    // The signals are blocked before any thread exists that they could kill, and are waited for
    // below.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    removeReadyFile()

    let topics = try TopicFile.all(in: topicsDir) ?? TopicFile.defaults
    let cluster = try MockCluster(brokers: brokers)
    for topic in topics {
      try cluster.createTopic(
        topic.name, partitions: topic.partitions, replication: min(brokers, 3))
    }
    try FileHandle.standardOutput.write(contentsOf: Data((cluster.bootstrapServers + "\n").utf8))
    if let readyFile {
      try Data(cluster.bootstrapServers.utf8).write(
        to: URL(fileURLWithPath: readyFile), options: .atomic)
    }

    var signal: Int32 = 0
    sigwait(&signals, &signal)
    removeReadyFile()
    withExtendedLifetime(cluster) {}
  }

  /// Removes the file, so that nobody uses an earlier run's address.
  private func removeReadyFile() {
    // It does not matter here if the file does not exist or cannot be removed. Writing it will fail
    // then.
    if let readyFile { try? FileManager.default.removeItem(atPath: readyFile) }
  }
}
