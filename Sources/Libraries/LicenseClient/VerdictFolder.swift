import Crypto
import FoundationEssentials
import Glibc
import JSONText
import Metering
import SystemRandom

/// Verdicts on disk. The files contain the signed texts, which are verified again when they are
/// read, but not the license key. The functions wait for the disk.
struct VerdictFolder: Sendable {
  /// The contents of a file, which is either a verdict or keys.
  struct Saved: Sendable {
    var signature: String?
    var keys: String?

    init(signature: String? = nil, keys: String? = nil) {
      self.signature = signature
      self.keys = keys
    }

    /// Returns nil if the bytes are not a JSON object.
    init?(_ json: [UInt8]) {
      // A file that cannot be read counts as absent.
      guard let members = (try? JSONReader.parse(json))?.members else { return nil }
      signature = members["signature"]?.text
      keys = members["keys"]?.text
    }

    var json: [UInt8] {
      var json = JSONWriter()
      json.beginObject()
      if let signature { json.member("signature", signature) }
      if let keys { json.member("keys", keys) }
      json.endObject()
      return json.bytes
    }
  }

  static let latestFile = "latest.json"
  static let keysFile = "keys.json"
  /// A key set has at most 1 MiB, and at most twice as much as a text in JSON.
  private static let maximumFileBytes = 1 << 21
  private static let hashLength = 32

  let path: String
  /// The largest number of verdicts. The oldest are removed first.
  var maximumEntries = VerdictCache.maximumEntries

  /// The file's name, `<hash of the license key>-<hash of the domain>.json`.
  static func name(_ key: VerdictCache.Key) -> String {
    "\(shortHash(key.licenseKey))-\(shortHash(key.domain)).json"
  }

  private static func shortHash(_ identifier: Identifier) -> String {
    Hexadecimal.text(Array(SHA256.hash(data: Array(identifier.utf8))).prefix(hashLength / 2))
  }

  /// Whether the name has the length of two hashes, the hyphen and the ending. No other file in the
  /// folder does.
  private static func isEntry(_ name: String) -> Bool {
    name.utf8.count == 2 * hashLength + 6 && name.utf8.dropFirst(hashLength).first == 0x2D
      && name.hasSuffix(".json")
  }

  /// Returns nil if the file does not exist or cannot be read.
  func read(_ name: String) -> Saved? {
    let descriptor = open(path + "/" + name, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    while bytes.count <= Self.maximumFileBytes {
      let part = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
        count = max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count))
      }
      if part.isEmpty { return Saved(bytes) }
      bytes += part
    }
    return nil
  }

  /// Writes a file that only the owner can read, as a whole or not at all.
  func write(_ name: String, _ saved: Saved) throws {
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    let temporary = "\(path)/.\(name).\(SystemRandom.hexadecimal())"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw DiskError(code: errno) }
    do {
      defer { close(descriptor) }
      try Self.write(saved.json, to: descriptor)
    } catch {
      unlink(temporary)
      throw error
    }
    guard rename(temporary, path + "/" + name) == 0 else {
      let code = errno
      unlink(temporary)
      throw DiskError(code: code)
    }
  }

  struct DiskError: Error { let code: CInt }

  private static func write(_ bytes: [UInt8], to descriptor: CInt) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      guard written > 0 else { throw DiskError(code: errno) }
      rest = rest.dropFirst(written)
    }
  }

  /// Saves a verdict. Domains that were never valid get no file, so that questions about them
  /// cannot fill the disk.
  func save(_ entry: VerdictCache.Entry, _ key: VerdictCache.Key, isLatest: Bool) throws {
    let name = Self.name(key)
    let saved = Saved(signature: entry.signature)
    if entry.verdict.isValid {
      try write(name, saved)
      trim(keeping: name)
    } else {
      if entry.verdict.concernsEveryDomain {
        for other in entries where other != name && other.hasPrefix(name.prefix(33)) {
          unlink(path + "/" + other)
        }
      }
      if access(path + "/" + name, F_OK) == 0 { try write(name, saved) }
    }
    if isLatest { try write(Self.latestFile, saved) }
  }

  private var entries: [String] {
    // A folder that does not exist or cannot be read has no entries.
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter(Self.isEntry)
  }

  private func trim(keeping kept: String) {
    let names = entries
    let excess = names.count - maximumEntries
    guard excess > 0 else { return }
    let oldest = names.map { ($0, changed($0)) }.sorted { $0.1 < $1.1 }.prefix(excess)
    for (name, _) in oldest where name != kept { unlink(path + "/" + name) }
  }

  /// The time of the last change in seconds since 1970, or 0 if the file is gone.
  private func changed(_ name: String) -> Int {
    var status = stat()
    return stat(path + "/" + name, &status) == 0 ? status.st_mtim.tv_sec : 0
  }
}
