import CChecksum
import Foundation

/// The state that outlives the segments. It has the producer's name, counters, and the place up to
/// which everything is delivered. It is one mapped page. Each number is stored as a whole, so that
/// it survives a process that dies. The spool's lock guards the numbers except `reserved`, which
/// only the upkeep's thread writes.
///
/// The layout is little-endian: magic (8), sum of the name (4), length of the name (4), name (256),
/// and then the numbers of `Field`.
final class SpoolState: @unchecked Sendable {
  enum Field: Int {
    /// Sequences below it may be in use. It is written to the disk before any of them is used.
    case reserved = 0
    /// Everything before this place (segment, offset) is delivered.
    case deliveredSegment
    case deliveredOffset
    /// How many events of each topic were written to segments.
    case appended
    /// How many events of each topic found no room.
    case refused = 5
    /// How many events of each topic were written and became unreadable or unsendable.
    case lost = 7
    /// How many events of each topic are known to be in Kafka.
    case delivered = 9
  }

  private static let magic: UInt64 = 0x3130_5353_5254_454D  // "METRSS01"
  private static let bytes = 4_096
  private static let numbers = 512

  let producer: String
  private let base: UnsafeMutableRawPointer

  /// - Parameter makeName: the name of a new spool.
  init(path: String, makeName: () -> String) throws(SpoolError) {
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw .system("open its state", errno) }
    defer { close(file) }
    var status = stat()
    fstat(file, &status)
    let isNew = status.st_size == 0
    let code = posix_fallocate(file, 0, off_t(Self.bytes))
    guard code == 0 else { throw .system("allocate its state", code) }
    guard let map = mmap(nil, Self.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0),
      map != MAP_FAILED
    else { throw .system("map its state", errno) }
    base = map
    if isNew || base.load(as: UInt64.self) == 0 {
      producer = makeName()
      var name = Array(producer.utf8.prefix(256))
      base.storeBytes(of: UInt32(name.count), toByteOffset: 12, as: UInt32.self)
      (base + 16).copyMemory(from: name, byteCount: name.count)
      base.storeBytes(
        of: meter_crc32c(0, &name, name.count), toByteOffset: 8, as: UInt32.self)
      base.storeBytes(of: Self.magic, as: UInt64.self)
      sync()
    } else {
      let count = Int(base.load(fromByteOffset: 12, as: UInt32.self))
      guard base.load(as: UInt64.self) == Self.magic, (1...256).contains(count),
        base.load(fromByteOffset: 8, as: UInt32.self) == meter_crc32c(0, base + 16, count)
      else {
        munmap(map, Self.bytes)
        throw .damaged(
          "its file `state` is damaged. Move the directory away and keep it (see meterctl spool show)"
        )
      }
      producer = String(
        decoding: UnsafeRawBufferPointer(start: base + 16, count: count), as: UTF8.self)
    }
  }

  deinit { munmap(base, Self.bytes) }

  subscript(field: Field, topic topic: Int = 0) -> Int64 {
    get {
      base.load(
        fromByteOffset: Self.numbers + 8 * (field.rawValue + topic), as: Int64.self)
    }
    set {
      base.storeBytes(
        of: newValue, toByteOffset: Self.numbers + 8 * (field.rawValue + topic), as: Int64.self)
    }
  }

  func sync() { msync(base, Self.bytes, MS_SYNC) }
}
