import MeteringTestKit
import Testing

@testable import AnomalyDetector

/// Which alerts still fit into an hour's budget.
struct AlertBudgetTests {
  private static let hour: Int64 = 3_600_000
  private static let start = 500_000 * hour

  private static func spend(
    _ budget: inout AlertBudget, _ key: String, _ license: String, _ customer: String? = "cus",
    at time: Int64 = start
  ) -> AlertBudget.Decision {
    budget.spend(key: key, license: license, customer: customer, recordedAt: time)
  }

  @Test("A license, a customer and unregistered licenses each have their share")
  func shares() {
    var budget = AlertBudget(
      limits: .init(license: 3, customer: 8, registered: 100, unregistered: 2))
    for n in 0..<3 { #expect(Self.spend(&budget, "a\(n)", "a") == .raise) }
    #expect(Self.spend(&budget, "a3", "a") == .suppress(.license))
    // Once half of its share is spent, the customer is told that only further licenses raise
    // alerts.
    let notice = AlertBudget.Decision.raiseWithNotice(until: Self.start + Self.hour)
    #expect(Self.spend(&budget, "b0", "b") == notice)
    #expect(Self.spend(&budget, "b1", "b") == .suppress(.customer))
    for license in ["c", "d", "e", "f"] { #expect(Self.spend(&budget, license, license) == notice) }
    #expect(Self.spend(&budget, "g", "g") == .suppress(.customer))
    // This takes nothing from other customers.
    #expect(Self.spend(&budget, "z", "z", "other") == .raise)
    for n in 0..<2 { #expect(Self.spend(&budget, "u\(n)", "u\(n)", nil) == .raise) }
    #expect(Self.spend(&budget, "u2", "u2", nil) == .suppress(.unregistered))
  }

  @Test("An alert that is found again costs nothing, and an hour later the count begins again")
  func again() {
    var budget = AlertBudget(
      limits: .init(license: 2, customer: 10, registered: 3, unregistered: 1))
    for _ in 0..<50 { #expect(Self.spend(&budget, "a", "a") == .raise) }
    #expect(Self.spend(&budget, "b", "b", "cus_b") == .raise)
    // The second half of the whole budget is kept for licenses that had no alert yet.
    #expect(Self.spend(&budget, "a1", "a") == .suppress(.registered))
    #expect(Self.spend(&budget, "c", "c", "cus_c") == .raise)
    #expect(Self.spend(&budget, "d", "d", "cus_d") == .suppress(.registered))
    // A partition that is behind spends from the current hour.
    #expect(
      Self.spend(&budget, "e", "e", "cus_e", at: Self.start - Self.hour) == .suppress(.registered))
    #expect(Self.spend(&budget, "d", "d", "cus_d", at: Self.start + Self.hour) == .raise)
  }

  @Test("Licenses and customers are told apart by their bytes")
  func bytes() {
    var budget = AlertBudget(limits: .init(license: 1, customer: 10))
    #expect(Self.spend(&budget, "M\u{FC}ller", "M\u{FC}ller") == .raise)
    #expect(Self.spend(&budget, "Mu\u{308}ller", "Mu\u{308}ller") == .raise)
    #expect(Self.spend(&budget, "2", "M\u{FC}ller") == .suppress(.license))
  }
}
