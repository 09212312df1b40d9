import Licensing
import Metering
import NIOPosix
import Synchronization

/// Verdicts by license and domain, at most 1,000 in memory and on disk. The oldest are removed
/// first.
final class VerdictCache: Sendable {
  /// The key of a verdict.
  struct Key: Hashable, Sendable {
    var licenseKey: Identifier
    var domain: Identifier

    init(licenseKey: String, domain: DomainName) {
      self.licenseKey = Identifier(licenseKey)
      self.domain = Identifier(domain.description)
    }
  }

  /// A verdict, its signature, and the time of its arrival by the local clock in milliseconds since
  /// 1970.
  struct Entry: Sendable {
    var verdict: SignedVerdict
    var signature: String
    var received: Int64
  }

  private struct Kept {
    let maximumEntries: Int
    var entries: [Key: (entry: Entry, use: Int)] = [:]
    var uses = 0
    var highestTime: Int64 = 0

    mutating func keep(_ entry: Entry, _ key: Key) {
      uses += 1
      entries[key] = (entry, uses)
      highestTime = max(highestTime, entry.verdict.timestamp)
      guard entries.count > maximumEntries,
        let oldest = entries.min(by: { $0.value.use < $1.value.use })?.key
      else { return }
      entries[oldest] = nil
    }
  }

  static let maximumEntries = 1_000

  private let folder: VerdictFolder?
  private let kept: Mutex<Kept>

  /// - Parameter keys: the keys that are known now. They verify the latest time on disk.
  init(
    folder: VerdictFolder?, keys: JSONWebKeySet?,
    maximumEntries: Int = VerdictCache.maximumEntries
  ) {
    self.folder = folder
    kept = Mutex(Kept(maximumEntries: maximumEntries))
    guard let keys, let latest = folder?.read(VerdictFolder.latestFile)?.signature else { return }
    kept.withLock { $0.highestTime = VerdictVerifier(keys: keys).signedTime(latest) ?? 0 }
  }

  /// The latest time that the service has signed, in milliseconds since 1970, or 0 if none is
  /// known.
  var highestTime: Int64 { kept.withLock(\.highestTime) }

  /// The entry in memory.
  func get(_ key: Key) -> Entry? {
    kept.withLock { kept in
      guard let entry = kept.entries[key]?.entry else { return nil }
      kept.uses += 1
      kept.entries[key]?.use = kept.uses
      return entry
    }
  }

  /// The newer of the entries in memory and on disk. Another process may have written the latter.
  func load(_ key: Key, domain: DomainName, keys: JSONWebKeySet?) async -> Entry? {
    let known = get(key)
    guard let folder, let keys else { return known }
    // The pool runs as long as the process.
    let saved = try? await NIOThreadPool.singleton.runIfActive {
      folder.read(VerdictFolder.name(key))?.signature
    }
    guard let signature = saved ?? nil, signature != known?.signature,
      // A file that somebody has changed counts as absent.
      let payload = try? VerdictVerifier(keys: keys).verifySaved(
        signature: signature, licenseKey: key.licenseKey.string, domain: domain),
      let verdict = SignedVerdict(payload: payload),
      verdict.timestamp > known?.verdict.timestamp ?? .min
    else { return known }
    let loaded = Entry(verdict: verdict, signature: signature, received: verdict.timestamp)
    kept.withLock { $0.keep(loaded, key) }
    return loaded
  }

  /// Stores a verdict. A "no" replaces the verdict of the domain, and those of the whole license if
  /// it is about that.
  func put(_ entry: Entry, _ key: Key) async {
    let isLatest = kept.withLock { kept in
      let isLatest = entry.verdict.timestamp >= kept.highestTime
      if entry.verdict.concernsEveryDomain {
        kept.entries = kept.entries.filter { $0.key.licenseKey != key.licenseKey }
      }
      kept.keep(entry, key)
      return isLatest
    }
    guard let folder else { return }
    // With a full or forbidden disk, the cache only does not survive a restart.
    try? await NIOThreadPool.singleton.runIfActive {
      try folder.save(entry, key, isLatest: isLatest)
    }
  }

  /// Stores the keys that were fetched.
  func put(keys: [UInt8]) async {
    guard let folder else { return }
    // Without them, a restart only has to fetch the keys again.
    try? await NIOThreadPool.singleton.runIfActive {
      try folder.write(VerdictFolder.keysFile, .init(keys: String(decoding: keys, as: UTF8.self)))
    }
  }
}
