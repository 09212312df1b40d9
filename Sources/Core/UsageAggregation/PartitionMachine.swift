/// Why a partition that the group has assigned to this process is not read.
package struct Standstill: Sendable, Equatable {
  package enum Cause: Sendable, Hashable, CaseIterable {
    /// Kafka does not answer for it. It has no leader, it is unknown at the moment, or a broker
    /// does not answer.
    case unreachable
    /// The log is not the one that was counted.
    case logDiffers
    case logEndsEarly
    /// The log is the one that was counted, but it has lost its end.
    case endLost
    /// The log begins after the position.
    case recordsGone
    /// A batch fails its checksum.
    case badBatch
    /// The topic was given more partitions after the group had begun to count it.
    case newPartition
    /// Another process has claimed it.
    case takenOver
  }

  package var cause: Cause
  /// One sentence, with the remedy if there is one.
  package var detail: String
  /// The offset that cannot be read, if the cause is `badBatch`.
  package var offset: Int64?

  package init(_ cause: Cause, _ detail: String, offset: Int64? = nil) {
    self.cause = cause
    self.detail = detail
    self.offset = offset
  }

  /// The command that ends it. Nil if it ends by itself.
  package var remedy: String? {
    switch cause {
    case .unreachable, .takenOver: nil
    case .logDiffers, .logEndsEarly: "meterctl topics new-epoch"
    case .recordsGone, .endLost, .badBatch: "meterctl topics accept-gap"
    case .newPartition: "meterctl topics grow"
    }
  }

  /// Whether an operator must act before the partition goes on.
  package var isHalt: Bool { cause != .unreachable && cause != .takenOver }
}

/// The life of one partition that the group has assigned to this process. The machine has no
/// effects. The driver reports what happened and carries out the action that is returned.
///
///     assigned ──► waiting ──► looking ──► reading
///                     ▲           │ │          │
///                     └───────────┘ └──────────┤ doubted (still held) or stopped
///                     ▲                        │
///                     └────────────────────────┘
///
/// - `waiting`: it is not read. When its time comes, the log is looked at.
/// - `looking`: a question is on its way. Answers to older questions are ignored.
/// - `reading`: it is claimed in the store and assigned in Kafka.
///
/// A partition is *held* while its window, sequences and position are in memory. A partition that
/// is only doubted stays held, so that it goes on where it was if its log turns out to be the same.
/// In every other case it must be claimed, which reads the store and the window again.
package struct PartitionMachine: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    case waiting(until: Int)
    case looking(ticket: Int)
    case reading
  }

  /// The result of a look at the log.
  package enum Finding: Sendable, Equatable {
    case fine
    case stands(Standstill)
  }

  /// What the driver has to do.
  package enum Action: Sendable, Equatable {
    /// The answer belongs to an older question.
    case ignore
    case claim
    /// Assign it in Kafka again, at its position.
    case goOn
    /// Forget its state in memory. The partition must be claimed before it is read again.
    case drop
    case wait
  }

  package private(set) var state: State
  package private(set) var isHeld = false
  /// Why it is not read. Nil while it is read, and while it is looked at for the first time.
  package private(set) var standstill: Standstill?
  /// The number of looks in a row that did not lead to progress.
  private var attempts = 0
  private var lastDoubt = Int.min / 2

  package init(assignedAt now: Int) { state = .waiting(until: now) }

  package var isReading: Bool { state == .reading }

  package func isDue(at now: Int) -> Bool {
    if case .waiting(let until) = state { return until <= now }
    return false
  }

  package mutating func looks(ticket: Int) { state = .looking(ticket: ticket) }

  package mutating func answered(ticket: Int, _ finding: Finding, at now: Int) -> Action {
    guard state == .looking(ticket: ticket) else { return .ignore }
    switch finding {
    case .fine:
      if isHeld {
        state = .reading
        standstill = nil
        return .goOn
      }
      // The claim ends with a call of `claimed` or `stopped`.
      return .claim
    case .stands(let standstill):
      let wasHeld = isHeld
      // If Kafka does not answer, the state in memory may still be right.
      if standstill.isHalt { isHeld = false }
      wait(standstill, now)
      return wasHeld && standstill.isHalt ? .drop : .wait
    }
  }

  /// Notes that it is claimed and assigned.
  package mutating func claimed() {
    state = .reading
    isHeld = true
    standstill = nil
  }

  /// Notes an event that its log may not have survived.
  /// - Returns: whether it was read: unassign it in Kafka.
  package mutating func doubted(at now: Int) -> Bool {
    guard state == .reading else { return false }
    if now - lastDoubt > 60_000 { attempts = 0 }
    lastDoubt = now
    // The first look follows immediately; doubts that repeat without progress are spaced out.
    state = .waiting(until: attempts == 0 ? now : now + Self.pause(attempts, most: 5_000))
    attempts += 1
    return true
  }

  /// Notes that it cannot go on, so that it must be claimed again.
  package mutating func stopped(_ standstill: Standstill, at now: Int) {
    isHeld = false
    wait(standstill, now)
  }

  /// Notes that its rows in the store have changed, because an operator did something.
  package mutating func storeChanged(at now: Int) {
    guard case .waiting = state else { return }
    state = .waiting(until: now)
  }

  /// Notes that the claim found a newer state of the store, so that the log must be looked at
  /// again.
  package mutating func looksAgain(at now: Int) { state = .waiting(until: now) }

  /// Notes that records of it were stored.
  package mutating func progressed() { attempts = 0 }

  private mutating func wait(_ standstill: Standstill, _ now: Int) {
    // A new cause starts over, so its first look comes soon.
    if self.standstill?.cause != standstill.cause { attempts = 0 }
    self.standstill = standstill
    let pause: Int
    switch standstill.cause {
    case .unreachable: pause = Self.pause(attempts, most: 5_000)
    // This is longer than a session, so that all members of the group know their partitions.
    case .takenOver: pause = 10_000
    default: pause = min(3_000 << min(attempts, 5), 60_000)
    }
    attempts += 1
    state = .waiting(until: now + pause)
  }

  private static func pause(_ attempts: Int, most: Int) -> Int {
    min(250 << min(attempts, 10), most)
  }
}
