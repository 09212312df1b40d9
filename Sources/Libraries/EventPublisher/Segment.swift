import CChecksum
import Foundation

/// One file of the spool, which is mapped as a whole. It has a header and then records, one after
/// the other.
///
/// The header has 64 bytes, little-endian: magic (8), the segment's number (8), the number of
/// events of each topic that were written before it (16), 28 bytes of zeros, and the CRC-32C of the
/// 52 bytes between magic and sum (4).
///
/// A record has the length of the body (4), the CRC-32C of the body continued from one of number
/// and place (4), and the body: sequence (8), topic (1), a zero (1), length of the key (2), key,
/// value, and zeros to a multiple of 8. A length of 0 ends the segment. The sum includes number and
/// place because files are used again, so that records from an older life of the file match
/// nowhere.
///
/// The kernel keeps the pages of a process that dies, so the next process reads everything that was
/// written. The spool's lock guards all writes.
final class Segment: @unchecked Sendable {
  static let headerBytes = 64
  private static let magic: UInt64 = 0x3130_4C50_5352_544D  // "MTRSPL01"
  /// The bytes in front of every body.
  static let frameBytes = 8
  static let bodyHeaderBytes = 12

  let path: String
  let size: Int
  private let base: UnsafeMutableRawPointer
  private(set) var number: UInt64 = 0

  /// Makes the file, or opens one of this size, and maps it.
  ///
  /// The blocks are allocated now. Otherwise a full disk would later cause a signal in the middle
  /// of a store.
  init(path: String, size: Int) throws(SpoolError) {
    self.path = path
    self.size = size
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard file >= 0 else { throw .system("open a segment", errno) }
    defer { close(file) }
    let code = posix_fallocate(file, 0, off_t(size))
    guard code == 0 else { throw .system("allocate a segment", code) }
    guard
      let map = mmap(
        nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | Int32(MAP_POPULATE), file, 0),
      map != MAP_FAILED
    else { throw .system("map a segment", errno) }
    base = map
  }

  deinit { munmap(base, size) }

  /// Begins a new life of the file. The magic is written last, because the file means nothing
  /// without it.
  func begin(number: UInt64, appendedBefore: [Int64]) {
    self.number = number
    memset(base, 0, Self.headerBytes + 4)
    base.storeBytes(of: number, toByteOffset: 8, as: UInt64.self)
    for (i, count) in appendedBefore.enumerated() {
      base.storeBytes(of: count, toByteOffset: 16 + 8 * i, as: Int64.self)
    }
    base.storeBytes(of: headerSum, toByteOffset: 60, as: UInt32.self)
    base.storeBytes(of: Self.magic, as: UInt64.self)
  }

  /// The checksum of the header after the magic number. The magic number itself is compared
  /// directly.
  private var headerSum: UInt32 { meter_crc32c(0, base + 8, 52) }

  var isUnused: Bool { base.load(as: UInt64.self) == 0 }

  /// Reads the header and returns the number of events of each topic that were written before the
  /// segment. Returns nil if there is no header.
  func readHeader() -> [Int64]? {
    guard base.load(as: UInt64.self) == Self.magic,
      base.load(fromByteOffset: 60, as: UInt32.self) == headerSum
    else { return nil }
    number = base.load(fromByteOffset: 8, as: UInt64.self)
    return Spool.topicIndices.map { base.load(fromByteOffset: 16 + 8 * $0, as: Int64.self) }
  }

  /// The size of a record without the end mark after it.
  static func recordBytes(key: Int, value: Int) -> Int {
    (frameBytes + bodyHeaderBytes + key + value + 7) & ~7
  }

  func hasRoom(at offset: Int, _ bytes: Int) -> Bool { offset + bytes + 4 <= size }

  /// Writes a record. The length is written last, so that a half-written record ends the segment.
  ///
  /// - Returns: the offset after it.
  func append(
    at offset: Int, sequence: Int64, topic: Int, key: UnsafeRawBufferPointer,
    value: UnsafeRawBufferPointer
  ) -> Int {
    let end = offset + Self.recordBytes(key: key.count, value: value.count)
    let body = base + offset + Self.frameBytes
    body.storeBytes(of: sequence, as: Int64.self)
    body.storeBytes(of: UInt8(topic), toByteOffset: 8, as: UInt8.self)
    body.storeBytes(of: 0, toByteOffset: 9, as: UInt8.self)
    body.storeBytes(of: UInt16(key.count), toByteOffset: 10, as: UInt16.self)
    (body + 12).copyMemory(from: key.baseAddress!, byteCount: key.count)
    (body + 12 + key.count).copyMemory(from: value.baseAddress!, byteCount: value.count)
    base.storeBytes(of: 0, toByteOffset: end, as: UInt32.self)
    let length = Self.bodyHeaderBytes + key.count + value.count
    base.storeBytes(
      of: meter_crc32c(seed(offset), body, length), toByteOffset: offset + 4, as: UInt32.self)
    base.storeBytes(of: UInt32(length), toByteOffset: offset, as: UInt32.self)
    return end
  }

  private func seed(_ offset: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: number) &* 0x9E37_79B1 ^ UInt32(truncatingIfNeeded: offset)
  }

  /// A record in the mapped file.
  struct Record {
    var sequence: Int64
    var topic: Int
    var key: UnsafeRawBufferPointer
    var value: UnsafeRawBufferPointer
    /// The offset after it.
    var end: Int
  }

  enum Reading {
    case record(Record)
    /// There are no more records.
    case end
    /// The bytes are not a record.
    case corrupt
  }

  /// - Parameter verify: whether to check the sum. Records that this process wrote need no check.
  func read(at offset: Int, verify: Bool) -> Reading {
    guard offset + Self.frameBytes + Self.bodyHeaderBytes <= size else { return .end }
    let length = Int(base.load(fromByteOffset: offset, as: UInt32.self))
    if length == 0 { return .end }
    let end = (offset + Self.frameBytes + length + 7) & ~7
    guard length >= Self.bodyHeaderBytes, end + 4 <= size else { return .corrupt }
    let body = base + offset + Self.frameBytes
    if verify {
      guard
        base.load(fromByteOffset: offset + 4, as: UInt32.self)
          == meter_crc32c(seed(offset), body, length)
      else { return .corrupt }
    }
    let keyLength = Int(body.load(fromByteOffset: 10, as: UInt16.self))
    let topic = Int(body.load(fromByteOffset: 8, as: UInt8.self))
    guard Self.bodyHeaderBytes + keyLength <= length, Spool.topicIndices.contains(topic) else {
      return .corrupt
    }
    return .record(
      Record(
        sequence: body.load(as: Int64.self), topic: topic,
        key: UnsafeRawBufferPointer(start: body + 12, count: keyLength),
        value: UnsafeRawBufferPointer(
          start: body + 12 + keyLength, count: length - 12 - keyLength),
        end: end))
  }

  /// Ends the segment here, whatever comes after it.
  func cut(at offset: Int) {
    if offset + 4 <= size { base.storeBytes(of: 0, toByteOffset: offset, as: UInt32.self) }
  }

  /// Writes the pages to the disk, and blocks for as long as that takes.
  func sync() { msync(base, size, MS_SYNC) }
}
