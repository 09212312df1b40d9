import Foundation
import Metering
import Synchronization
import SystemRandom

/// Accepted events that are not in Kafka yet, in files that outlive the process.
///
/// Publishers call `append`. The threads of the sender and of the upkeep call all other functions.
/// One lock guards the spool. Code that holds it never waits for a disk or a network, only for the
/// kernel's pages.
final class Spool: @unchecked Sendable {
  /// The indices of the topics. 0 is usage, and 1 is validations.
  static let topicIndices = 0..<2

  /// The position of a reader.
  struct Position: Equatable {
    var segment: UInt64
    var offset: Int
  }

  /// How much of the spool may be used for an event to be accepted. While Kafka does not answer,
  /// events that strangers can cause without end leave room for billed events.
  enum Share: Int {
    case whole = 4
    case half = 2
    case quarter = 1

    func bytes(of all: Int) -> Int { all / 4 * rawValue }
  }

  /// The counts of one topic. `accepted` includes `dropped`, as the ledger wants it.
  struct Counts: Sendable, Equatable {
    var accepted: Int64 = 0
    var pending: Int64 = 0
    var dropped: Int64 = 0
  }

  /// What an operator should know about the recovery when the spool was opened.
  struct Recovery: Sendable, Equatable {
    var pending: Int64 = 0
    /// The events that an earlier process accepted and that cannot be read any more.
    var lost: Int64 = 0
    /// The segments whose end could not be read. They are kept as `.corrupt`.
    var damaged: [String] = []
  }

  private struct Core: ~Copyable {
    var encoder = EventEncoder()
    /// The segments, oldest first. Events are written to the last one.
    var segments: [Segment] = []
    var offset = Segment.headerBytes
    /// The next segments, which were made ahead or freed, so that an append never waits for a file.
    var spares: [Segment] = []
    var nextSequence: Int64 = 1
    /// Sequences below it may be used, because the reservation is on the disk.
    var sequenceEnd: Int64 = 1
    var pending: [Int64] = [0, 0]
    /// Whether the upkeep was signaled and has not looked yet. One signal is enough.
    var isKeeperCalled = false
    var isStopped = false
    /// Whether its files may already belong to another process.
    var isUnlocked = false
  }

  let producer: String
  let recovery: Recovery
  private let directory: String
  private let segmentBytes: Int
  private let maximumSegments: Int
  /// How many segments are made ahead. They are two, or more if segments are small.
  private let spareSegments: Int
  /// The number of the next file. Files are named in the order in which they were made. Their
  /// headers describe their contents.
  private let nextFile: Atomic<UInt64>
  private let state: SpoolState
  private let lockFile: Int32
  private let core: Mutex<Core>
  /// Signaled when there is something for the upkeep.
  let wakeUpkeep = DispatchSemaphore(value: 0)
  /// The position of the first record that is not known to be delivered.
  let firstPending: Position

  /// How many sequences are reserved together. The disk is written once for this many events.
  private static let reservation: Int64 = 1 << 24

  /// - Parameter producerPrefix: the prefix of the name of a new spool, with letters, digits, `.`,
  ///   `_` and `-`.
  init(
    directory: String, maximumBytes: Int, segmentBytes: Int, producerPrefix: String,
    maximumQuantity: Int64 = Limits.quantity
  ) throws(SpoolError) {
    self.directory = directory
    self.segmentBytes = segmentBytes
    maximumSegments = max(maximumBytes / segmentBytes, 2)
    spareSegments = min(max(2, (4 << 20) / segmentBytes), maximumSegments - 1)
    lockFile = try Self.lock(Self.withoutSlashes(directory))
    state = try SpoolState(path: directory + "/state") {
      producerPrefix + "-" + SystemRandom.base36()
    }
    producer = state.producer
    var opened = try SpoolRecovery(directory: directory, state: state)
    var core = Core()
    core.encoder.maximumQuantity = maximumQuantity
    core.segments = opened.segments
    core.pending = opened.pending
    core.nextSequence = max(opened.lastSequence + 1, state[.reserved], 1)
    core.sequenceEnd = core.nextSequence + Self.reservation
    state[.reserved] = core.sequenceEnd
    state.sync()
    nextFile = Atomic(opened.nextFile)
    if let end = opened.lastEnd {
      core.offset = end
    } else {
      let first = try Segment(
        path: Self.path(directory, opened.nextFile), size: segmentBytes)
      first.begin(
        number: opened.nextNumber,
        appendedBefore: Self.topicIndices.map { [state] in state[.appended, topic: $0] })
      core.segments.append(first)
    }
    opened.summary.pending = core.pending.reduce(0, +)
    recovery = opened.summary
    firstPending =
      opened.start
      ?? Position(segment: core.segments[core.segments.count - 1].number, offset: core.offset)
    self.core = Mutex(core)
    prepare()
  }

  deinit { close(lockFile) }

  static func path(_ directory: String, _ number: UInt64) -> String {
    let digits = String(number)
    return "\(directory)/\(String(repeating: "0", count: 20 - digits.count))\(digits).seg"
  }

  // MARK: Writing

  /// Appends an event. Returns whether there was room.
  private static func append(
    _ core: inout Core, _ state: SpoolState, topic: Int, key: UnsafeRawBufferPointer
  ) -> Bool {
    let value = core.encoder.bytes
    let bytes = Segment.recordBytes(key: key.count, value: value.count)
    if !core.segments[core.segments.count - 1].hasRoom(at: core.offset, bytes) {
      guard let next = core.spares.popLast() else { return false }
      next.begin(
        number: core.segments[core.segments.count - 1].number + 1,
        appendedBefore: [state[.appended, topic: 0], state[.appended, topic: 1]])
      core.segments.append(next)
      core.offset = Segment.headerBytes
    }
    core.offset = core.segments[core.segments.count - 1].append(
      at: core.offset, sequence: core.nextSequence, topic: topic, key: key, value: value)
    core.nextSequence += 1
    core.pending[topic] += 1
    state[.appended, topic: topic] += 1
    return true
  }

  /// Whether an event with that share may still be written.
  private func hasRoom(_ core: borrowing Core, for share: Share) -> Bool {
    if share == .whole { return true }
    var waiting = (core.segments.count - 1) * segmentBytes + core.offset
    if core.segments[0].number == UInt64(clamping: state[.deliveredSegment]) {
      waiting -= Int(clamping: state[.deliveredOffset])
    }
    return waiting <= share.bytes(of: maximumSegments * segmentBytes)
  }

  /// The requirements for an event of either kind.
  protocol Event: Sendable {
    static var topic: Int { get }
    var subject: String { get }
    var share: Share { get }
    func encode(
      _ encoder: inout EventEncoder, producer: String, sequence: Int64, now: Int64
    ) -> PublishOutcome.Reason?
  }

  func append(_ event: some Event, now: Int64) -> PublishOutcome {
    let topic = type(of: event).topic
    var needsUpkeep = false
    let outcome = core.withLock { core -> PublishOutcome in
      let refusal = event.encode(
        &core.encoder, producer: producer, sequence: core.nextSequence, now: now)
      if let refusal { return .invalid(refusal) }
      var key = event.subject
      let fits =
        !core.isStopped && core.nextSequence < core.sequenceEnd
        && hasRoom(core, for: event.share)
        && key.withUTF8 {
          Self.append(&core, state, topic: topic, key: UnsafeRawBufferPointer($0))
        }
      // The clock wakes the upkeep of a full spool, and not each dropped event.
      if fits, core.spares.count < spareSegments, !core.isKeeperCalled {
        core.isKeeperCalled = true
        needsUpkeep = true
      }
      if fits { return .accepted }
      if !core.isUnlocked { state[.refused, topic: topic] += 1 }
      return .dropped
    }
    if needsUpkeep { wakeUpkeep.signal() }
    return outcome
  }

  /// Appends all events or none. If the process dies in the middle, the first of them may remain.
  func append<E: Event>(batch: [E], now: Int64) -> BatchOutcome {
    let outcome = core.withLock { core -> BatchOutcome in
      guard !core.isStopped,
        core.nextSequence + Int64(batch.count) < core.sequenceEnd
      else { return .full }
      // This is the room in the rest of this segment and in the segments that are ready.
      var room = core.segments[core.segments.count - 1].size - core.offset - 4
      var spares = core.spares.count
      for (i, event) in batch.enumerated() {
        if let reason = event.encode(
          &core.encoder, producer: producer, sequence: core.nextSequence + Int64(i), now: now)
        {
          return .invalid(index: i, reason)
        }
        let bytes = Segment.recordBytes(
          key: event.subject.utf8.count, value: core.encoder.bytes.count)
        if bytes > room {
          guard spares > 0 else { return .full }
          spares -= 1
          room = segmentBytes - Segment.headerBytes - 4
        }
        room -= bytes
        if room < 0 { return .full }
      }
      for event in batch {
        _ = event.encode(
          &core.encoder, producer: producer, sequence: core.nextSequence, now: now)
        var key = event.subject
        _ = key.withUTF8 {
          Self.append(&core, state, topic: E.topic, key: UnsafeRawBufferPointer($0))
        }
      }
      return .accepted
    }
    wakeUpkeep.signal()
    return outcome
  }

  /// Drops all events from now on.
  func stop() { core.withLock { $0.isStopped = true } }

  /// Releases the spool for another process. Nothing may be appended any more.
  func unlock() {
    core.withLock { $0.isUnlocked = true }
    _ = flock(lockFile, LOCK_UN)
  }

  // MARK: Reading

  /// The segment and the range of the records after a position. Nil if there are none yet.
  func window(from position: Position) -> (segment: Segment, start: Int, end: Int)? {
    core.withLock { core in
      guard var index = core.segments.firstIndex(where: { $0.number >= position.segment }) else {
        return nil
      }
      var start =
        core.segments[index].number == position.segment
        ? max(position.offset, Segment.headerBytes) : Segment.headerBytes
      // A sealed segment ends at its end mark.
      while index < core.segments.count - 1,
        case .end = core.segments[index].read(at: start, verify: false)
      {
        index += 1
        start = Segment.headerBytes
      }
      let isLast = index == core.segments.count - 1
      if isLast, start >= core.offset { return nil }
      return (core.segments[index], start, isLast ? core.offset : .max)
    }
  }

  /// Notes that everything before `position` is delivered, with the number of records of each topic
  /// since the last call.
  ///
  /// - Parameter unsendable: how many of these were finally refused.
  func delivered(to position: Position, counts: [Int64], unsendable: [Int64]) {
    let hasTooMany = core.withLock { core in
      for topic in Self.topicIndices {
        core.pending[topic] -= counts[topic]
        state[.lost, topic: topic] += unsendable[topic]
        state[.delivered, topic: topic] += counts[topic] - unsendable[topic]
      }
      state[.deliveredSegment] = Int64(position.segment)
      state[.deliveredOffset] = Int64(position.offset)
      while core.segments.count > 1, core.segments[0].number < position.segment {
        core.spares.append(core.segments.removeFirst())
      }
      return core.spares.count > spareSegments
    }
    if hasTooMany { wakeUpkeep.signal() }
  }

  /// The position from which to send again, after the records that are known to be delivered.
  func resume() -> Position {
    core.withLock { core in
      let oldest = core.segments[0]
      let segment = UInt64(clamping: state[.deliveredSegment])
      return oldest.number > segment
        ? Position(segment: oldest.number, offset: Segment.headerBytes)
        : Position(segment: segment, offset: max(Int(state[.deliveredOffset]), Segment.headerBytes))
    }
  }

  func counts(_ topic: Int) -> Counts {
    core.withLock { core in
      Counts(
        accepted: state[.appended, topic: topic] + state[.refused, topic: topic],
        pending: core.pending[topic],
        dropped: state[.refused, topic: topic] + state[.lost, topic: topic])
    }
  }

  var pending: Int64 { core.withLock { $0.pending[0] + $0.pending[1] } }
  var bytes: Int {
    core.withLock { core in
      core.segments.reduce(0) { $0 + $1.size } + core.spares.reduce(0) { $0 + $1.size }
    }
  }

  // MARK: Keeping

  /// Prepares the next segment and reserves sequences, so that an append need not wait for them.
  ///
  /// - Returns: why there is no next segment, if a system call failed.
  @discardableResult
  func prepare() -> SpoolError? {
    let (missing, surplus, sequenceEnd) = core.withLock { core in
      core.isKeeperCalled = false
      // Files with another size come from an earlier setting.
      var surplus = core.spares.filter { $0.size != segmentBytes }
      core.spares.removeAll { $0.size != segmentBytes }
      while core.spares.count > spareSegments { surplus.append(core.spares.removeLast()) }
      let room = maximumSegments - core.segments.count - core.spares.count
      let end = core.sequenceEnd
      return (
        min(spareSegments - core.spares.count, room), surplus,
        core.nextSequence + Self.reservation / 2 > end ? end + Self.reservation : end
      )
    }
    for segment in surplus { unlink(segment.path) }
    if sequenceEnd > state[.reserved] {
      state[.reserved] = sequenceEnd
      state.sync()
      core.withLock { $0.sequenceEnd = sequenceEnd }
    }
    for _ in 0..<max(missing, 0) {
      let path = Self.path(directory, nextFile.wrappingAdd(1, ordering: .relaxed).newValue)
      do throws(SpoolError) {
        let segment = try Segment(path: path, size: segmentBytes)
        core.withLock { $0.spares.append(segment) }
      } catch {
        unlink(path)
        return error
      }
    }
    return nil
  }

  /// Writes all events to the disk, and blocks for as long as that takes.
  func sync() {
    for segment in core.withLock({ $0.segments }) { segment.sync() }
    state.sync()
  }
}
