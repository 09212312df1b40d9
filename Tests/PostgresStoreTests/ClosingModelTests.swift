import Foundation
import Metering
import MeteringTestKit
import PostgresStore
import Testing

/// Compares random usage, merges, changes of anchors, closes and adjustments with `ClosingModel`.
@Suite struct ClosingModelTests {
  private static let meters = ["a", "b"]
  /// Five months from 2025-01-01 on. They are long ago, whatever day it is.
  private static let days: Range<Int64> = 20_089..<20_240

  private static func date(_ day: Int64) -> String {
    String(UTCTime.text(day * 86_400_000).prefix(10))
  }

  private struct Run {
    let database: TestDatabase
    let store: PeriodStore
    let adjustments: AdjustmentStore
    var model = ClosingModel()
    var random: SeededRandom

    init(seed: UInt64) throws {
      database = try TestDatabase()
      store = PeriodStore(try database.connection())
      adjustments = AdjustmentStore(try database.connection())
      random = SeededRandom(seed: seed)
      try database.execute(
        "insert into customer (customer_id, name) values ('cus_0', 'a'), ('cus_1', 'b')")
      try register("lic_0", "cus_0", anchor: 1)
      try register("lic:1", "cus_0", anchor: 31)
      try register("lic_2", "cus_1", anchor: 9)
    }

    mutating func register(_ license: String, _ customer: String, anchor: Int) throws {
      _ = try database.rows(
        """
        insert into license (license_id, customer_id, plan, issued_at, expires_at)
        values ($1, $2, 'p', '2024-01-01 00:00Z', now() + interval '1 year')
        """, [.text(license), .text(customer)])
      _ = try database.rows(
        "insert into license_billing_anchor values ($1, '-infinity', $2::int)",
        [.text(license), .int(anchor)])
      model.customers[license] = customer
      // Periods that were closed before followed the calendar month.
      model.anchors[license] = [
        ClosingModel.forever: model.frozen(license) == nil ? anchor : 1
      ]
    }

    mutating func key() -> ClosingModel.Key {
      ClosingModel.Key(
        license: random.pick(["lic_0", "lic:1", "lic_2", "lic_3"]),
        meter: random.pick(ClosingModelTests.meters),
        day: Int64.random(in: ClosingModelTests.days, using: &random))
    }

    // MARK: Steps

    mutating func use() throws {
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let key = key()
        let sum = ClosingModel.Sum(
          quantity: Int64.random(in: 0...50, using: &random),
          events: Int64.random(in: 1...3, using: &random))
        let partition = random.chance(50) ? 0 : 1
        _ = try database.rows(
          """
          insert into \(PendingTable.of(partition: partition)) values (1, $1::int, $2, $3,
            $4::timestamp at time zone 'UTC' + make_interval(hours => $5::int), 7, 9, $6::bigint,
            $7::bigint, '', '["domain","a.example",' || $6 || ',' || $7 || ']')
          """,
          [
            .int(partition), .text(key.license), .text(key.meter),
            .text(ClosingModelTests.date(key.day)), .int(Int.random(in: 0...23, using: &random)),
            .integer(sum.quantity), .integer(sum.events),
          ])
        model.days[key] = (model.days[key] ?? ClosingModel.Sum()) + sum
      }
    }

    mutating func changeAnchor() throws {
      let key = key()
      guard model.customers[key.license] != nil, model.anchors[key.license]?[key.day] == nil else {
        return
      }
      let anchor = Int.random(in: 1...31, using: &random)
      let isFrozen = key.day < model.frozen(key.license) ?? ClosingModel.forever
      do {
        _ = try database.rows(
          "insert into license_billing_anchor values ($1, $2::date, $3::int)",
          [.text(key.license), .text(ClosingModelTests.date(key.day)), .int(anchor)])
        #expect(!isFrozen, "an anchor of a closed period was changed")
        model.anchors[key.license]?[key.day] = anchor
      } catch let error as PostgresError {
        #expect(isFrozen && error.sqlState == "MM003", "\(error)")
      }
    }

    mutating func setLimit() throws {
      let license = random.pick(Array(model.customers.keys.sorted()))
      let (meter, limit) = (
        random.pick(ClosingModelTests.meters), Int64.random(in: 0...200, using: &random)
      )
      _ = try database.rows(
        """
        insert into license_limit values ($1, $2, $3::bigint)
        on conflict (license_id, meter) do update set quantity = excluded.quantity
        """, [.text(license), .text(meter), .integer(limit)])
      model.limits[license + " " + meter] = limit
    }

    mutating func close() throws {
      let day = Int64.random(in: ClosingModelTests.days, using: &random)
      let customer = random.chance(30) ? random.pick(["cus_0", "cus_1"]) : nil
      let before = model.closed.count
      model.close(through: day, customer: customer)
      let result = try store.close(
        PeriodStore.CloseRequest(
          endingBefore: ClosingModelTests.date(day), customer: customer.map(Identifier.init(_:)),
          closedBy: "test"))
      #expect(result.closed == Int64(model.closed.count - before))
    }

    mutating func closeOne() throws {
      var key = key()
      key.day = model.period(key.license, key.day).start
      let (outcome, result) = try store.closeOne(
        PeriodID(
          license: Identifier(key.license), meter: key.meter, start: ClosingModelTests.date(key.day)
        ), PeriodStore.CloseRequest(endingBefore: "2026-01-01", closedBy: "test"))
      if model.closed[key] != nil || model.isClosed(key) {
        #expect(outcome != .closed)
      } else if model.canCloseOne(key) {
        #expect(outcome == .closed && result.closed == 1)
        model.closeOne(key)
      } else {
        #expect(outcome == .noPeriod)
      }
    }

    mutating func adjust() throws {
      var key = key()
      let start = model.period(key.license, key.day).start
      if random.chance(90) { key.day = start }
      let sum = ClosingModel.Sum(
        quantity: Int64.random(in: -60...60, using: &random),
        events: Int64.random(in: -2...2, using: &random))
      let outcome = try adjustments.adjust(
        AdjustmentStore.Adjustment(
          license: Identifier(key.license), meter: key.meter,
          appliesTo: ClosingModelTests.date(key.day), quantity: sum.quantity,
          eventCount: sum.events, reason: "agreed", recordedBy: "test"))
      if key.day != start {
        #expect(outcome == .notAPeriodStart(of: ClosingModelTests.date(start)))
      } else if model.customers[key.license] == nil,
        !model.days.keys.contains(where: { $0.license == key.license })
      {
        #expect(outcome == .unknownLicense)
      } else if let first = model.beginsBeforeUse(key) {
        #expect(outcome == .beforeFirstPeriod(beginning: ClosingModelTests.date(first)))
      } else {
        guard case .recorded(let id) = outcome else {
          Issue.record("\(outcome)")
          return
        }
        model.adjust(key, sum)
        guard random.chance(30) else { return }
        let reversal = try adjustments.reverse(id, reason: "a mistake", recordedBy: "test")
        guard case .recorded = reversal else {
          Issue.record("\(reversal)")
          return
        }
        model.adjust(key, ClosingModel.Sum() - sum)
      }
    }

    mutating func step() throws -> String {
      switch Int.random(in: 0..<100, using: &random) {
      case 0..<45:
        try use()
        return "use"
      case 45..<62:
        let owned = random.pick(["{0}", "{1}", "{0,1}"])
        _ = try database.rows("select usage_merge($1::int[])", [.text(owned)])
        return "merge \(owned)"
      case 62..<68:
        _ = try database.rows("select usage_fold(5)")
        return "fold"
      case 68..<74:
        try changeAnchor()
        return "anchor"
      case 74..<78:
        try setLimit()
        return "limit"
      case 78..<84:
        try close()
        return "close"
      case 84..<88:
        try closeOne()
        return "close one"
      case 88..<90 where model.customers["lic_3"] == nil:
        try register("lic_3", "cus_1", anchor: 15)
        return "register"
      default:
        try adjust()
        return "adjust"
      }
    }

    func check(_ what: String) throws {
      let connection = try database.connection()
      try connection.transaction("begin isolation level repeatable read read only") {
        func rows(_ sql: String) throws -> [String] {
          try connection.query(sql).rows.map { $0.map { $0 ?? "-" }.joined(separator: " ") }
        }
        let day = "(extract(epoch from %)/86400)::int"
        func days(_ column: String) -> String { day.replacingOccurrences(of: "%", with: column) }
        let periods = try rows(
          """
          select license_id, meter, \(days("period_start")), \(days("period_end")), quantity,
            event_count, case when closed_at is null or event_count = 0
              then (closed_at is not null)::text else 'true ' || coalesce(included::text, '-')
              || ' ' || overage end from usage_by_period
          """
        ).sorted()
        let adjustments = try rows(
          """
          select license_id, meter, \(days("applies_to_period_start")),
            \(days("invoiced_period_start")), kind, quantity, event_count from usage_adjustment
          """
        ).sorted()
        #expect(Set(periods) == Set(model.periodRows), "usage_by_period after \(what)")
        #expect(
          periods.count == Set(periods).count && adjustments == model.adjustmentRows, "\(what)")
        for difference in try ClosingInvariant.differences(connection) {
          Issue.record("after \(what): \(difference)")
        }
      }
    }
  }

  @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
  func `Readers see what the model says after each step`(number: UInt64) throws {
    let seed = number &* SeededRandom.testSeed()
    print("closing: METER_TEST_SEED=\(seed / number)")
    var run = try Run(seed: seed)
    try (number % 2 == 0 ? MergeKind.appending : .settling).set(run.database)
    try eventually("the totals are made") {
      _ = try run.database.rows("select usage_fold(1000)")
      return try run.database.integer("select count(*) from usage_total_state where is_complete")
        == 1
    }
    var steps: [String] = []
    // A seed that closes few periods in 80 steps goes on until it has closed some.
    while steps.count < 80 || (run.model.closed.count <= 3 && steps.count < 800) {
      steps.append(try run.step())
      try run.check("\(steps.suffix(4)), step \(steps.count), seed \(seed)")
    }
    #expect(run.model.closed.count > 3)
  }
}
