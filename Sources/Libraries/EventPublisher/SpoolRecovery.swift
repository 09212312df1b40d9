import Foundation

/// Reads what an earlier process left: segments in order, their records summed, what cannot be read
/// cut off and told.
struct SpoolRecovery {
  private(set) var segments: [Segment] = []
  /// Where the first record lies that is not known to be delivered; nil: there is none.
  private(set) var start: Spool.Position?
  private(set) var pending: [Int64] = [0, 0]
  private(set) var lastSequence: Int64 = 0
  private(set) var nextNumber: UInt64 = 1
  /// A file name that is not taken.
  private(set) var nextFile: UInt64 = 1
  /// Where the last segment goes on; nil: a new one is begun.
  private(set) var lastEnd: Int?
  var summary = Spool.Recovery()

  init(directory: String, state: SpoolState) throws(SpoolError) {
    let delivered = Spool.Position(
      segment: UInt64(clamping: state[.deliveredSegment]),
      offset: Int(clamping: state[.deliveredOffset]))
    // Never that one's number again: the place in it would be taken for a place in the new one.
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
          // An append may have died between its record and the counter.
          state[.appended, topic: topic] = max(state[.appended, topic: topic], appended)
        }
        // It goes on, so that processes that start and die do not make the spool grow; but not
        // where records are missing from its count.
        lastEnd = isShort ? nil : end
      }
      // A record that a process died in was never counted: then nothing is missing, and nothing is
      // damaged.
      if !isIntact, isShort { setAside(entry.segment) }
      if !isIntact { entry.segment.cut(at: end) }
    }
    for topic in Spool.topicIndices {
      let known = state[.delivered, topic: topic] + state[.lost, topic: topic] + pending[topic]
      let lost = max(state[.appended, topic: topic] - known, 0)
      summary.lost += lost
      state[.lost, topic: topic] += lost
      // A process may have died between writing the place of what is delivered and its count.
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

  /// Nil where it holds nothing: made ready and never used, or its header is damaged (then it is
  /// set aside).
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

  /// Counts its records up to the last good one.
  private mutating func scan(
    _ segment: Segment, delivered: Spool.Position
  ) -> (counted: [Int64], end: Int, isIntact: Bool) {
    var offset = Segment.headerBytes
    var counted: [Int64] = [0, 0]
    // A place that is no record's is not believed: then all is sent again, and known as such.
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

  /// Keeps the bytes for whoever wants to look.
  private mutating func setAside(_ segment: Segment) {
    let target = segment.path + ".corrupt"
    summary.damaged.append(target)
    // Without room for a copy the events count all the same.
    try? FileManager.default.removeItem(atPath: target)
    try? FileManager.default.copyItem(atPath: segment.path, toPath: target)
  }
}
