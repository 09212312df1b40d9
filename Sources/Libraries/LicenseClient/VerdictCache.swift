import Licensing
import Metering
import NIOPosix
import Synchronization

/// Verdicts by license and domain, at most 1,000 in memory and on disk; the oldest leave first.
final class VerdictCache: Sendable {
  /// What names a verdict.
  struct Key: Hashable, Sendable {
    var licenseKey: Identifier
    var domain: Identifier

    init(licenseKey: String, domain: DomainName) {
      self.licenseKey = Identifier(licenseKey)
      self.domain = Identifier(domain.description)
    }
  }

  /// A verdict, its signature, and when it came by the local clock, in milliseconds since 1970.
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

  /// - Parameter keys: those that are known now, with which the latest time on disk is verified.
  init(
    folder: VerdictFolder?, keys: JSONWebKeySet?,
    maximumEntries: Int = VerdictCache.maximumEntries
  ) {
    self.folder = folder
    kept = Mutex(Kept(maximumEntries: maximumEntries))
    guard let keys, let latest = folder?.read(VerdictFolder.latestFile)?.signature else { return }
    kept.withLock { $0.highestTime = VerdictVerifier(keys: keys).signedTime(latest) ?? 0 }
  }

  /// The latest time that the service has signed, in milliseconds since 1970; 0 where none is
  /// known.
  var highestTime: Int64 { kept.withLock(\.highestTime) }

  /// What memory holds.
  func get(_ key: Key) -> Entry? {
    kept.withLock { kept in
      guard let entry = kept.entries[key]?.entry else { return nil }
      kept.uses += 1
      kept.entries[key]?.use = kept.uses
      return entry
    }
  }

  /// The newer of what memory and disk hold; another process may have written it.
  func load(_ key: Key, domain: DomainName, keys: JSONWebKeySet?) async -> Entry? {
    let known = get(key)
    guard let folder, let keys else { return known }
    // The pool runs for as long as the process does.
    let saved = try? await NIOThreadPool.singleton.runIfActive {
      folder.read(VerdictFolder.name(key))?.signature
    }
    guard let signature = saved ?? nil, signature != known?.signature,
      // What was changed on disk is not known.
      let payload = try? VerdictVerifier(keys: keys).verifySaved(
        signature: signature, licenseKey: key.licenseKey.string, domain: domain),
      let verdict = SignedVerdict(payload: payload),
      verdict.timestamp > known?.verdict.timestamp ?? .min
    else { return known }
    let loaded = Entry(verdict: verdict, signature: signature, received: verdict.timestamp)
    kept.withLock { $0.keep(loaded, key) }
    return loaded
  }

  /// Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where
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
    // A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
    try? await NIOThreadPool.singleton.runIfActive {
      try folder.save(entry, key, isLatest: isLatest)
    }
  }

  /// Keeps the keys that were fetched.
  func put(keys: [UInt8]) async {
    guard let folder else { return }
    // Without them a restart fetches the keys again, and nothing else.
    try? await NIOThreadPool.singleton.runIfActive {
      try folder.write(VerdictFolder.keysFile, .init(keys: String(decoding: keys, as: UTF8.self)))
    }
  }
}
