import Foundation

/// Reads the spool of an earlier process. It reads the segments in order, checks the sums of their
/// records, and cuts off and reports the parts that cannot be read.
struct SpoolRecovery {
  private(set) var segments: [Segment] = []
  /// The position of the first record that is not known to be delivered. Nil if there is none.
  private(set) var start: Spool.Position?
  private(set) var pending: [Int64] = [0, 0]
  private(set) var lastSequence: Int64 = 0
  private(set) var nextNumber: UInt64 = 1
  /// The number of an unused file name.
  private(set) var nextFile: UInt64 = 1
  /// The offset at which the last segment goes on. Nil if a new one must be begun.
  private(set) var lastEnd: Int?
  var summary = Spool.Recovery()

  init(directory: String, state: SpoolState) throws(SpoolError) {
    let delivered = Spool.Position(
      segment: UInt64(clamping: state[.deliveredSegment]),
      offset: Int(clamping: state[.deliveredOffset]))
    // The number must not be used again, because the place in the old segment would be taken for a
    // place in the new one.
    nextNumber = delivered.segment + 1
    var kept: [(segment: Segment, appendedBefore: [Int64])] = []
    for path in try Self.files(directory) {
      nextFile = max(nextFile, (UInt64(path.dropLast(4).suffix(20)) ?? 0) + 1)
      guard let (segment, appended) = try open(path) else { continue }
      nextNumber = max(nextNumber, segment.number + 1)
      if segment.number < delivered.segment {
        unlink(path)
      } else {
        kept.append((segment, appended))
      }
    }
    kept.sort { $0.segment.number < $1.segment.number }
    for (i, entry) in kept.enumerated() {
      let (counted, end, isIntact) = scan(entry.segment, delivered: delivered)
      segments.append(entry.segment)
      let isLast = i == kept.count - 1
      var isShort = !isLast
      if isLast {
        for topic in Spool.topicIndices {
          let appended = entry.appendedBefore[topic] + counted[topic]
          isShort = isShort || appended < state[.appended, topic: topic]
          // The process may have died between a record and the counter.
          state[.appended, topic: topic] = max(state[.appended, topic: topic], appended)
        }
        // The segment goes on, so that processes that start and die do not make the spool grow. It
        // does not if records are missing.
        lastEnd = isShort ? nil : end
      }
      // If the process died in the middle of a record, that was never counted. Then nothing is
      // missing and nothing is damaged.
      if !isIntact, isShort { setAside(entry.segment) }
      if !isIntact { entry.segment.cut(at: end) }
    }
    for topic in Spool.topicIndices {
      let known = state[.delivered, topic: topic] + state[.lost, topic: topic] + pending[topic]
      let lost = max(state[.appended, topic: topic] - known, 0)
      summary.lost += lost
      state[.lost, topic: topic] += lost
      // A process may have died between writing the place and the count of delivered records.
      state[.delivered, topic: topic] =
        state[.appended, topic: topic] - state[.lost, topic: topic] - pending[topic]
    }
  }

  private static func files(_ directory: String) throws(SpoolError) -> [String] {
    guard let handle = opendir(directory) else { throw .system("read its directory", errno) }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name.hasSuffix(".seg") { names.append(directory + "/" + name) }
    }
    return names.sorted()
  }

  /// Returns nil if the segment has no records, because it was never used or because its header is
  /// damaged. In the second case it is set aside.
  private mutating func open(_ path: String) throws(SpoolError) -> (Segment, [Int64])? {
    var status = stat()
    guard lstat(path, &status) == 0 else { throw .system("read a segment", errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw .damaged("\(path) is not a file, although segments are files")
    }
    guard status.st_size >= Segment.headerBytes + 4, status.st_size < 1 << 32 else {
      unlink(path)
      return nil
    }
    let segment = try Segment(path: path, size: Int(status.st_size))
    if let appended = segment.readHeader() { return (segment, appended) }
    if segment.isUnused {
      unlink(path)
    } else {
      summary.damaged.append(path + ".corrupt")
      rename(path, path + ".corrupt")
    }
    return nil
  }

  /// Counts the segment's records up to the last good one.
  private mutating func scan(
    _ segment: Segment, delivered: Spool.Position
  ) -> (counted: [Int64], end: Int, isIntact: Bool) {
    var offset = Segment.headerBytes
    var counted: [Int64] = [0, 0]
    // A place that is not the beginning of a record is ignored. Then all records are sent again,
    // and consumers recognize them.
    var seen = segment.number == delivered.segment ? delivered.offset : offset
    if !isPlace(seen, in: segment) { seen = offset }
    while true {
      switch segment.read(at: offset, verify: true) {
      case .record(let record):
        counted[record.topic] += 1
        lastSequence = max(lastSequence, record.sequence)
        if offset >= seen {
          pending[record.topic] += 1
          if start == nil { start = Spool.Position(segment: segment.number, offset: offset) }
        }
        offset = record.end
      case .end: return (counted, offset, true)
      case .corrupt: return (counted, offset, false)
      }
    }
  }

  private func isPlace(_ place: Int, in segment: Segment) -> Bool {
    var offset = Segment.headerBytes
    while offset < place, case .record(let record) = segment.read(at: offset, verify: true) {
      offset = record.end
    }
    return offset == place
  }

  /// Keeps the bytes for a later analysis.
  private mutating func setAside(_ segment: Segment) {
    let target = segment.path + ".corrupt"
    summary.damaged.append(target)
    // If there is no room for a copy, the events count nevertheless.
    try? FileManager.default.removeItem(atPath: target)
    try? FileManager.default.copyItem(atPath: segment.path, toPath: target)
  }
}
