/// Decides which host names may be looked up now, so that a silent name server holds up only its
/// own names.
///
/// - There is at most one look-up of a name at a time, however many deliveries wait for it.
/// - Look-ups begin on one of `fastSlots`. One that takes longer than `slowAfterMilliseconds` moves
///   to one of `slowSlots`, and the next look-ups of that name begin there.
/// - Some of the fast slots are kept for names that have answered in time before.
/// - The number of names that are remembered is bounded, because customers choose the names.
///
/// Times are milliseconds of any monotonic clock. `tick` and `next` are O(look-ups under way), and
/// `withdraw` is O(names that wait). All other operations are O(1).
package struct LookupSchedule: Sendable {
  package struct Limits: Sendable {
    package var fastSlots = 32
    package var reservedSlots = 8
    package var slowSlots = 256
    package var slowAfterMilliseconds: Int64 = 250
    package var maximumRemembered = 20_000

    package init() {}
  }

  private struct Lookup {
    let began: Int64
    var isSlow: Bool
  }

  private struct Line {
    var hosts: [String] = []
    var taken = 0

    var isEmpty: Bool { taken == hosts.count }

    mutating func takeFirst() -> String {
      defer {
        taken += 1
        if taken == hosts.count || taken > 256 {
          hosts.removeFirst(taken)
          taken = 0
        }
      }
      return hosts[taken]
    }

    mutating func remove(_ host: String) {
      hosts.removeFirst(taken)
      taken = 0
      hosts.removeAll { $0 == host }
    }
  }

  private let limits: Limits
  private var trusted: Set<String> = []
  private var slow: Set<String> = []
  private var waiting: Set<String> = []
  private var trustedLine = Line()
  private var unknownLine = Line()
  private var slowLine = Line()
  private var underway: [String: Lookup] = [:]
  private var slowUnderway = 0

  package init(limits: Limits = Limits()) { self.limits = limits }

  package func isUnderway(_ host: String) -> Bool { underway[host] != nil }

  package var underwayCount: Int { underway.count }
  package var waitingCount: Int { waiting.count }

  /// Asks for a look-up, unless a look-up of the name waits or is under way.
  package mutating func add(_ host: String) {
    guard underway[host] == nil, waiting.insert(host).inserted else { return }
    if slow.contains(host) {
      slowLine.hosts.append(host)
    } else if trusted.contains(host) {
      trustedLine.hosts.append(host)
    } else {
      unknownLine.hosts.append(host)
    }
  }

  /// Takes back a name that no delivery waits for any more. A look-up that is under way goes on.
  package mutating func withdraw(_ host: String) {
    guard waiting.remove(host) != nil else { return }
    trustedLine.remove(host)
    unknownLine.remove(host)
    slowLine.remove(host)
  }

  /// The names whose look-ups begin now.
  package mutating func next(now: Int64) -> [String] {
    var begun: [String] = []
    func fastUnderway() -> Int { underway.count - slowUnderway }
    while !trustedLine.isEmpty, fastUnderway() < limits.fastSlots {
      begun.append(begin(trustedLine.takeFirst(), isSlow: false, now))
    }
    while !unknownLine.isEmpty, fastUnderway() < limits.fastSlots - limits.reservedSlots {
      begun.append(begin(unknownLine.takeFirst(), isSlow: false, now))
    }
    while !slowLine.isEmpty, slowUnderway < limits.slowSlots {
      begun.append(begin(slowLine.takeFirst(), isSlow: true, now))
    }
    return begun
  }

  private mutating func begin(_ host: String, isSlow: Bool, _ now: Int64) -> String {
    waiting.remove(host)
    underway[host] = Lookup(began: now, isSlow: isSlow)
    if isSlow { slowUnderway += 1 }
    return host
  }

  /// Moves look-ups that take long to the slow slots. If those are full, a look-up keeps its fast
  /// slot.
  package mutating func tick(now: Int64) {
    for (host, lookup) in underway
    where !lookup.isSlow && now - lookup.began >= limits.slowAfterMilliseconds {
      remember(host, in: \.slow)
      trusted.remove(host)
      guard slowUnderway < limits.slowSlots else { continue }
      underway[host]?.isSlow = true
      slowUnderway += 1
    }
  }

  /// - Parameter answered: whether the name server answered with addresses.
  package mutating func finished(_ host: String, now: Int64, answered: Bool) {
    guard let lookup = underway.removeValue(forKey: host) else { return }
    if lookup.isSlow { slowUnderway -= 1 }
    if now - lookup.began >= limits.slowAfterMilliseconds {
      remember(host, in: \.slow)
      trusted.remove(host)
      return
    }
    slow.remove(host)
    if answered { remember(host, in: \.trusted) }
  }

  private mutating func remember(_ host: String, in names: WritableKeyPath<Self, Set<String>>) {
    // Forgetting all names is rare. It costs each name one look-up among the unknown names.
    if self[keyPath: names].count >= limits.maximumRemembered { self[keyPath: names] = [] }
    self[keyPath: names].insert(host)
  }
}
