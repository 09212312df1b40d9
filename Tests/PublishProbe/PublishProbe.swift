import EventPublisher
import Foundation
import Logging

/// A process that tests kill. It publishes as fast as it can, and notes in a mapped file how many
/// events were accepted.
///
/// The arguments are the brokers, the spool directory, the counter file, and a word with which the
/// ids begin.
@main
enum PublishProbe {
  static func main() throws {
    let arguments = CommandLine.arguments
    let file = open(arguments[3], O_RDWR | O_CREAT, 0o600)
    ftruncate(file, 4_096)
    guard let counter = mmap(nil, 4_096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
      counter != MAP_FAILED
    else { fatalError("no counter") }
    var configuration = EventPublisher.Configuration(
      brokers: arguments[1], spoolDirectory: arguments[2])
    configuration.maximumBytes = 64 << 20
    configuration.segmentBytes = 256 << 10
    configuration.producerPrefix = "probe"
    let publisher = try EventPublisher(
      configuration: configuration, logger: Logger(label: "probe"))
    var accepted: Int64 = 0
    while true {
      let outcome = publisher.publish(
        UsageEvent(
          id: "\(arguments[4])-\(accepted)", source: "/probe", subject: "lic_\(accepted % 50)"))
      guard outcome == .accepted else {
        usleep(1_000)
        continue
      }
      accepted += 1
      counter.storeBytes(of: accepted, as: Int64.self)
      if accepted % 100 == 0 { usleep(500) }
    }
  }
}
