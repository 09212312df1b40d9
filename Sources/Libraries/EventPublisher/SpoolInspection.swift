import Foundation

/// The state of a spool, whether or not a process has it open. Reading it changes nothing.
public struct SpoolInspection: Sendable, Equatable {
  /// The spool's name in the ledger.
  public var producer: String
  /// Whether a process has it open now.
  public var isInUse: Bool
  /// The counts of the usage topic.
  public var usage: EventPublisher.Statistics.Topic
  /// The counts of the validation topic.
  public var validations: EventPublisher.Statistics.Topic
  /// The size of its segments.
  public var bytes: Int

  /// - Throws: `SpoolError` if there is no spool, or if its state is damaged.
  public init(directory: String) throws(SpoolError) {
    guard access(directory + "/state", R_OK) == 0 else {
      throw .damaged("there is no spool in \(directory)")
    }
    let state = try SpoolState(path: directory + "/state") { "" }
    producer = state.producer
    func topic(_ index: Int) -> EventPublisher.Statistics.Topic {
      let appended = state[.appended, topic: index]
      let lost = state[.lost, topic: index]
      let refused = state[.refused, topic: index]
      return EventPublisher.Statistics.Topic(
        accepted: appended + refused, pending: appended - lost - state[.delivered, topic: index],
        dropped: refused + lost)
    }
    usage = topic(0)
    validations = topic(1)
    bytes = Self.segmentBytes(directory)
    let lock = open(directory + "/lock", O_RDONLY | O_CLOEXEC)
    isInUse = lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0
    if lock >= 0 { close(lock) }
  }

  private static func segmentBytes(_ directory: String) -> Int {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    return names.filter { $0.hasSuffix(".seg") }.reduce(0) { sum, name in
      var status = stat()
      return stat(directory + "/" + name, &status) == 0 ? sum + Int(status.st_size) : sum
    }
  }
}
