import DomainNames
import Foundation
import Licensing
import Logging
import Metering
import PostgresStore
import ServiceLifecycle
import ServiceRuntime
import Synchronization

/// The parts of a registered license that decide a verdict.
struct KnownLicense: Sendable {
  var terms: LicenseTerms
  var customerID: Identifier
}

/// The licenses, tokens and limits that the service knows. They are kept in memory and updated by
/// notifications.
///
/// One thread listens, another reads. While PostgreSQL is unavailable, everything in memory stays
/// valid. Afterwards all of it is read again, because notifications were missed.
final class LicenseDirectory: Service, Sendable {
  typealias Licenses = ReadThrough<Identifier, KnownLicense>
  typealias Tokens = ReadThrough<String, AccessStore.TokenRow>

  let licenses: Licenses
  /// Tokens, by SHA-256 in hexadecimal.
  let tokens: Tokens
  private let limits = Mutex<[LimitKey: (start: Int64, end: Int64)]>([:])
  private let databaseURL: String
  private let rules: PublicSuffixList
  private let health: HealthState
  private let logger: Logger
  private let wakeup = Wakeup()
  private let wantsLimits = Atomic<Bool>(true)
  private let isStopping = Atomic<Bool>(false)
  /// Only the loader's thread reads and writes these two.
  nonisolated(unsafe) private var refusal: String?
  nonisolated(unsafe) private var loggedStates: Set<String> = []

  private struct LimitKey: Hashable, Sendable {
    var license: Identifier
    var meter: Identifier
  }

  private static let rowsAtOnce = 500
  private static let limitsMilliseconds = 30_000

  init(
    databaseURL: String, capacity: Int, rules: PublicSuffixList, health: HealthState,
    logger: Logger
  ) {
    self.databaseURL = databaseURL
    self.rules = rules
    self.health = health
    self.logger = logger
    licenses = ReadThrough(capacity: capacity, absentMilliseconds: 5_000) {
      [wakeup] in wakeup.wake()
    }
    tokens = ReadThrough(capacity: capacity, absentMilliseconds: 5_000) {
      [wakeup] in wakeup.wake()
    }
  }

  /// Whether usage of the meter has reached its limit in the period that contains `now`
  /// (milliseconds since 1970).
  func isOverLimit(_ license: Identifier, _ meter: Identifier, now: Int64) -> Bool {
    limits.withLock { limits in
      guard !limits.isEmpty,
        let period = limits[LimitKey(license: license, meter: meter)]
      else { return false }
      return period.start <= now && now < period.end
    }
  }

  func run() async throws {
    let loader = WorkerThread("directory-loader") { [self] in load() }
    let listener = WorkerThread("directory-listener") { [self] in listen() }
    // This does not run on the listener's thread, which may hang in a call for as long as TCP
    // allows.
    await cancelWhenGracefulShutdown { [self] in
      while !Task.isCancelled {
        licenses.expireWaiters()
        tokens.expireWaiters()
        // A cancellation only ends the pause sooner, and the loop with it.
        try? await Task.sleep(for: .milliseconds(250))
      }
    }
    isStopping.store(true, ordering: .releasing)
    wakeup.wake()
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      Thread.detachNewThread {
        _ = loader.join(seconds: 2)
        _ = listener.join(seconds: 2)
        done.resume()
      }
    }
  }

  private var goesOn: Bool { !isStopping.load(ordering: .acquiring) }

  // MARK: Listening

  private func listen() {
    let pulse = health.heartbeat("directory listener", .helpful)
    defer { pulse.rest() }
    while goesOn {
      pulse.beat()
      do {
        let connection = try PostgresConnection(
          url: databaseURL, application: "validation-service-listen",
          statementTimeoutMilliseconds: 5_000)
        try connection.execute("listen license_change; listen api_token; listen limit_state")
        // Anything may have changed while nobody was listening.
        licenses.changedAll()
        tokens.changedAll()
        wantLimits()
        try hear(connection, pulse)
      } catch {
        // The loader may have nothing to ask. This makes it find out that PostgreSQL is back.
        wantLimits()
        if goesOn { usleep(500_000) }
      }
    }
  }

  private func hear(
    _ connection: PostgresConnection, _ pulse: Heartbeat
  ) throws(PostgresError) {
    var nextProbe = Monotonic.milliseconds + 5_000
    while goesOn {
      pulse.beat()
      for notification in try connection.notifications(waitMilliseconds: 250) {
        switch (notification.channel, notification.payload) {
        case ("license_change", ""): licenses.changedAll()
        case ("license_change", let id): licenses.changed(Identifier(id))
        case ("api_token", _): tokens.changedAll()
        default: wantLimits()
        }
      }
      // A probe finds a peer that has disappeared without closing the connection.
      if Monotonic.milliseconds >= nextProbe {
        try connection.probe()
        nextProbe = Monotonic.milliseconds + 5_000
      }
    }
  }

  private func wantLimits() {
    wantsLimits.store(true, ordering: .releasing)
    wakeup.wake()
  }

  // MARK: Reading

  private func load() {
    // Verdicts still come from what is in memory, and ending the process would lose that.
    let pulse = health.heartbeat("directory loader", .helpful)
    defer { pulse.rest() }
    var connection: PostgresConnection?
    var nextLimits = 0
    while goesOn {
      pulse.beat()
      do {
        let open: PostgresConnection
        if let connection {
          open = connection
        } else {
          open = try PostgresConnection.toKnownSchema(
            url: databaseURL, application: "validation-service",
            statementTimeoutMilliseconds: 2_000)
          connection = open
          licenses.recover()
          tokens.recover()
        }
        let isIdle = try readOnce(AccessStore(open), limitsAreDue: &nextLimits)
        health.degraded("postgres", problem: refusal.map { "PostgreSQL refuses to \($0)" })
        if isIdle { wakeup.sleep(milliseconds: 1_000) }
      } catch {
        connection = nil
        licenses.fail([])
        tokens.fail([])
        let cause = (error as? PostgresError)?.refusal ?? "PostgreSQL does not answer"
        health.degraded(
          "postgres", problem: "\(cause). Licenses in memory can still be validated (\(error))")
        if goesOn { usleep(300_000) }
      }
    }
    licenses.fail([])
    tokens.fail([])
  }

  /// - Returns: true if there was nothing to do.
  private func readOnce(
    _ store: AccessStore, limitsAreDue nextLimits: inout Int
  ) throws -> Bool {
    var isIdle = true
    let ids = licenses.take(Self.rowsAtOnce)
    if !ids.isEmpty {
      isIdle = false
      try fetch(ids, into: licenses) { try read(store, $0) }
    }
    let hashes = tokens.take(Self.rowsAtOnce)
    if !hashes.isEmpty {
      isIdle = false
      try fetch(hashes, into: tokens) { hashes in
        Dictionary(
          try store.tokens(hashes: hashes).map { ($0.hash, $0) }, uniquingKeysWith: { $1 })
      }
    }
    // Merges may commit in a different order than they notify. Therefore everything is read once in
    // a while without a notification.
    if wantsLimits.exchange(false, ordering: .acquiring) || Monotonic.milliseconds >= nextLimits {
      do {
        let reached = try store.limitsReached()
        let now = Dictionary(
          reached.map {
            (
              LimitKey(license: $0.licenseID, meter: $0.meter),
              (start: $0.periodStart, end: $0.periodEnd)
            )
          }, uniquingKeysWith: { a, b in a.end <= b.end ? a : b })
        limits.withLock { $0 = now }
        nextLimits = Monotonic.milliseconds + Self.limitsMilliseconds
      } catch  where !error.isRetriable {
        refused(error)
        nextLimits = Monotonic.milliseconds + Self.limitsMilliseconds
      } catch {
        wantsLimits.store(true, ordering: .releasing)
        throw error
      }
    }
    return isIdle
  }

  /// Reads rows and hands them over. If PostgreSQL refuses a statement, its keys are read in
  /// halves, so that a key which PostgreSQL cannot take only affects the requests for it.
  ///
  /// - Throws: errors that mean PostgreSQL is unavailable: a lost connection or a timeout.
  private func fetch<Key: Hashable & Sendable, Value: Sendable>(
    _ keys: [Key], into rows: ReadThrough<Key, Value>,
    _ read: ([Key]) throws -> [Key: Value]
  ) throws {
    var left = [keys[...]]
    do {
      while let some = left.popLast() {
        do {
          rows.fulfill(Array(some), with: try read(Array(some)))
          refusal = nil
        } catch let error as PostgresError where !error.isRetriable {
          refused(error)
          let middle = some.startIndex + some.count / 2
          if some.count == 1 {
            rows.refuse(some[middle])
          } else {
            left += [some[..<middle], some[middle...]]
          }
        }
      }
    } catch {
      rows.fail(keys)
      throw error
    }
  }

  /// Logs each SQLSTATE once. Data that PostgreSQL cannot take (class 22) is the request's fault.
  /// Anything else is for the operator to correct, so health names it. The message is left out,
  /// because it may quote what a tenant sent.
  private func refused(_ error: PostgresError) {
    if !error.sqlState.hasPrefix("22") {
      refusal = "\(error.operation), SQLSTATE \(error.sqlState)"
    }
    guard loggedStates.insert(error.sqlState).inserted else { return }
    logger.error(
      "PostgreSQL refuses a statement (this is logged once)",
      metadata: ["sql_state": "\(error.sqlState)", "operation": "\(error.operation)"])
  }

  private func read(
    _ store: AccessStore, _ ids: [Identifier]
  ) throws -> [Identifier: KnownLicense] {
    var found: [Identifier: KnownLicense] = [:]
    for row in try store.licenses(ids) {
      found[row.licenseID] = KnownLicense(
        terms: LicenseTerms(
          licenseID: row.licenseID, plan: row.plan, features: row.features,
          limits: LicenseClaims.limits(ofMeters: row.limits, seats: row.seats),
          domains: BoundDomains(row.domains, rules: rules), validFrom: row.issuedAt,
          expiresAt: row.expiresAt, isTrial: row.isTrial,
          status: LicenseTerms.Status(rawValue: row.status) ?? .suspended,
          overagePolicy: LicenseTerms.OveragePolicy(rawValue: row.overagePolicy) ?? .block),
        customerID: row.customerID)
    }
    return found
  }
}
