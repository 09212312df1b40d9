/// Notices a session in which nothing moves although every thread works: Kafka's client answers in
/// time, but brings nothing.
///
/// Two such states are known. The group has taken partitions back and does not say what to read
/// next. Or the log of a partition goes on after the position, and no record comes. A new client
/// ends both, and is safe at any time.
struct MovementWatch {
  /// A broker that does not answer a fetch is given up after 60 s (`socket.timeout.ms`).
  static let fetchMilliseconds = 150_000
  /// The number of looks that must have seen a partition stand still. A session that the database
  /// held up for as long has not looked meanwhile, and goes on by itself.
  static let fetchLooks = 5
  /// Another member may hold up a rebalance for as long as it may work without polling, 300 s
  /// (`max.poll.interval.ms`).
  static let groupMilliseconds = 400_000
  /// A rebalance that takes longer than this is reported.
  static let groupNewsMilliseconds = 60_000

  private struct Stall {
    var position: Int64
    var logEnd: Int64
    var since: Int
    var looks = 1
  }

  private var groupAskedAt: Int?
  private var stalls: [Int32: Stall] = [:]

  /// The group is expected to say what to read: at the beginning, and after it has taken something
  /// back.
  mutating func waitsForGroup(at now: Int) {
    if groupAskedAt == nil { groupAskedAt = now }
  }

  mutating func groupAnswered() { groupAskedAt = nil }

  /// A look at a partition that is being read.
  ///
  /// - Parameters:
  ///   - asked: the consumer's position when the log's end was asked for.
  ///   - position: its position now.
  ///   - logEnd: the offset after the last record that may be read.
  mutating func looked(
    _ partition: Int32, asked: Int64, position: Int64, logEnd: Int64, at now: Int
  ) {
    guard position == asked, logEnd > asked else {
      stalls[partition] = nil
      return
    }
    if stalls[partition]?.position == position {
      stalls[partition]?.logEnd = logEnd
      stalls[partition]?.looks += 1
    } else {
      stalls[partition] = Stall(position: position, logEnd: logEnd, since: now)
    }
  }

  /// The partition is no longer read.
  mutating func forget(_ partition: Int32) { stalls[partition] = nil }

  /// The problem to report, and whether only a new client can help.
  func problem(at now: Int) -> (text: String, isFinal: Bool)? {
    for (partition, stall) in stalls
    where now - stall.since > Self.fetchMilliseconds && stall.looks >= Self.fetchLooks {
      return (
        """
        partition \(partition) is read from offset \(stall.position), its log goes on to \
        \(stall.logEnd), and nothing has come for \((now - stall.since) / 1_000) s
        """, true
      )
    }
    guard let groupAskedAt, now - groupAskedAt > Self.groupNewsMilliseconds else { return nil }
    return (
      "the group has not said what to read for \((now - groupAskedAt) / 1_000) s",
      now - groupAskedAt > Self.groupMilliseconds
    )
  }
}
