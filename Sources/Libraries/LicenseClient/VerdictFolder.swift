import Crypto
import FoundationEssentials
import Glibc
import JSONText
import Metering
import SystemRandom

/// Verdicts on disk: the signed texts themselves, which are verified again when they are read. The
/// license key is not among them. Its functions wait for the disk.
struct VerdictFolder: Sendable {
  /// What a file holds: the one or the other.
  struct Saved: Sendable {
    var signature: String?
    var keys: String?

    init(signature: String? = nil, keys: String? = nil) {
      self.signature = signature
      self.keys = keys
    }

    /// Nil where the bytes are no JSON object.
    init?(_ json: [UInt8]) {
      // What cannot be read is not known.
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
  /// A key set has at most 1 MiB, and twice as much as a text in JSON.
  private static let maximumFileBytes = 1 << 21
  private static let hashLength = 32

  let path: String
  /// Of verdicts; the oldest leave first.
  var maximumEntries = VerdictCache.maximumEntries

  /// `<hash of the license key>-<hash of the domain>.json`
  static func name(_ key: VerdictCache.Key) -> String {
    "\(shortHash(key.licenseKey))-\(shortHash(key.domain)).json"
  }

  private static func shortHash(_ identifier: Identifier) -> String {
    Hexadecimal.text(Array(SHA256.hash(data: Array(identifier.utf8))).prefix(hashLength / 2))
  }

  /// Two hashes, the hyphen and the ending; nothing else in the folder is so long and ends so.
  private static func isEntry(_ name: String) -> Bool {
    name.utf8.count == 2 * hashLength + 6 && name.utf8.dropFirst(hashLength).first == 0x2D
      && name.hasSuffix(".json")
  }

  /// Nil where there is no such file, or it cannot be read.
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

  /// Writes a file of the owner's alone, whole or not at all.
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

  /// Names that were never valid leave no file: whoever asks for them must not fill the disk.
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
    // A folder that is not there, or cannot be read, has none.
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter(Self.isEntry)
  }

  private func trim(keeping kept: String) {
    let names = entries
    let excess = names.count - maximumEntries
    guard excess > 0 else { return }
    let oldest = names.map { ($0, changed($0)) }.sorted { $0.1 < $1.1 }.prefix(excess)
    for (name, _) in oldest where name != kept { unlink(path + "/" + name) }
  }

  /// In seconds since 1970; 0 of a file that is gone.
  private func changed(_ name: String) -> Int {
    var status = stat()
    return stat(path + "/" + name, &status) == 0 ? status.st_mtim.tv_sec : 0
  }
}
