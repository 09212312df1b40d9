import Metering
import Synchronization

/// How many alerts of one topic may still be raised in the current hour.
///
/// - The hour is taken from the log (`recordedAt` of the findings). A group that catches up
///   therefore has a budget for each hour that it reads.
/// - The second half of a customer's budget, and of the whole budget, is kept for licenses that
///   have had no alert in this hour. Nobody can hide other licenses by making much noise about
///   some.
/// - A finding can be found again, because it goes on or because a process died. Its alert has the
///   same key and costs nothing.
/// - The budget itself bounds the memory, because each entry was paid for.
struct AlertBudget: Sendable {
  struct Limits: Sendable {
    /// Enough for ten foreign domains, their digest, spreads, bursts and uses after the end.
    var license = 24
    var customer = 100
    /// The limit of all registered licenses together.
    var registered = 2_000
    /// The limit of all unregistered licenses together. Anybody can invent a license, and must not
    /// be able to fill the table.
    var unregistered = 200
  }

  enum Decision: Sendable, Equatable {
    case raise
    /// The alert says that until the end of the hour (in milliseconds) the customer is told only
    /// about further licenses.
    case raiseWithNotice(until: Int64)
    case suppress(Cause)
  }

  enum Cause: String, Sendable, CaseIterable {
    case license
    case customer
    case registered
    case unregistered
  }

  private static let hourMilliseconds: Int64 = 3_600_000

  let limits: Limits
  private var hour: Int64 = .min
  private var keys: Set<[UInt8]> = []
  private var licenses: [[UInt8]: Int] = [:]
  private var customers: [[UInt8]: Int] = [:]
  private var registered = 0
  private var unregistered = 0

  init(limits: Limits = Limits()) { self.limits = limits }

  /// - Parameter customer: nil if the license is not registered.
  mutating func spend(
    key: String, license: String, customer: String?, recordedAt: Int64
  ) -> Decision {
    begin(Self.hour(recordedAt))
    let key = Array(key.utf8)
    if keys.contains(key) { return .raise }
    let license = Array(license.utf8)
    guard let customer = customer.map({ Array($0.utf8) }) else {
      guard unregistered < limits.unregistered else { return .suppress(.unregistered) }
      unregistered += 1
      keys.insert(key)
      return .raise
    }
    let ofLicense = licenses[license, default: 0]
    let ofCustomer = customers[customer, default: 0]
    guard ofLicense < limits.license else { return .suppress(.license) }
    guard Self.hasRoom(ofCustomer, of: limits.customer, isFirst: ofLicense == 0) else {
      return .suppress(.customer)
    }
    guard Self.hasRoom(registered, of: limits.registered, isFirst: ofLicense == 0) else {
      return .suppress(.registered)
    }
    licenses[license] = ofLicense + 1
    customers[customer] = ofCustomer + 1
    registered += 1
    keys.insert(key)
    return Self.hasRoom(ofCustomer + 1, of: limits.customer, isFirst: false)
      ? .raise : .raiseWithNotice(until: (hour + 1) * Self.hourMilliseconds)
  }

  /// - Parameter milliseconds: a time of the log.
  static func hour(_ milliseconds: Int64) -> Int64 { milliseconds / hourMilliseconds }

  private static func hasRoom(_ spent: Int, of limit: Int, isFirst: Bool) -> Bool {
    spent < (isFirst ? limit : limit / 2)
  }

  private mutating func begin(_ hour: Int64) {
    guard hour > self.hour else { return }
    self = AlertBudget(limits: limits)
    self.hour = hour
  }
}

/// The budget that the writers of all sessions of a topic share.
final class SharedAlertBudget: Sendable {
  private let budget: Mutex<AlertBudget>

  init(_ budget: AlertBudget = AlertBudget()) { self.budget = Mutex(budget) }

  /// The budget as the stored alerts have left it.
  var value: AlertBudget { budget.withLock { $0 } }

  /// Takes over what a flush has spent, once its alerts are stored.
  func settle(_ spent: AlertBudget) { budget.withLock { $0 = spent } }
}
