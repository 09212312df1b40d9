import Metering
import Recount
import Testing

@Suite("Rows of usage, summed and compared")
struct TotalsTests {
  private func key(_ license: String, _ minute: Int64) -> UsageKey {
    UsageKey(license: ExactText(license), meter: "m", minuteStart: minute)
  }

  private func tally(_ quantity: Int64, _ count: Int64) -> Tally {
    Tally(quantity: quantity, eventCount: count)
  }

  @Test("Minutes roll up to the hours and days they lie in, before 1970 too")
  func rollsUp() {
    let minutes = Totals(
      window: .minute,
      rows: [
        key("a", -1): tally(1, 1), key("a", 0): tally(2, 1), key("a", 59): tally(3, 1),
        key("a", 60): tally(4, 1), key("b", 1440): tally(5, 1),
      ])
    let hours = minutes.rolledUp(to: .hour)
    #expect(
      hours.rows == [
        key("a", -60): tally(1, 1), key("a", 0): tally(5, 2), key("a", 60): tally(4, 1),
        key("b", 1440): tally(5, 1),
      ])
    let days = [
      key("a", -1440): tally(1, 1), key("a", 0): tally(9, 3), key("b", 1440): tally(5, 1),
    ]
    #expect(hours.rolledUp(to: .day).rows == days)
    #expect(minutes.rolledUp(to: .day).rows == days)
    #expect(minutes.rolledUp(to: .minute) == minutes)
  }

  @Test("Merging adds rows, beyond 64 bits if it must")
  func merges() {
    var totals = Totals(window: .day, rows: [key("a", 0): tally(.max, 1)])
    totals.merge(
      Totals(window: .day, rows: [key("a", 0): tally(.max, 2), key("b", 0): tally(1, 1)]))
    #expect(totals.rows[key("a", 0)]?.quantity == Int128(Int64.max) * 2)
    #expect(totals.rows[key("a", 0)]?.eventCount == 3)
    #expect(totals.rows.count == 2)
  }

  @Test("A range keeps the rows that begin in it")
  func restricts() {
    let rows = [key("a", -1): tally(1, 1), key("a", 0): tally(1, 1), key("a", 5): tally(1, 1)]
    let kept = Totals(window: .minute, rows: rows).beginning(in: 0..<5)
    #expect(Array(kept.rows.keys) == [key("a", 0)])
  }

  @Test("Every row that differs is reported in order, and empty rows equal missing ones")
  func compares() {
    let expected = Totals(
      window: .hour,
      rows: [
        key("b", 60): tally(1, 1), key("b", 0): tally(1, 1), key("a", 0): tally(7, 2),
        key("c", 0): tally(0, 1), key("same", 0): tally(4, 4), key("nothing", 0): tally(0, 0),
      ])
    let actual = Totals(
      window: .hour,
      rows: [
        key("b", 60): tally(1, 2), key("a", 0): tally(8, 2), key("d", 0): tally(1, 1),
        key("same", 0): tally(4, 4), key("zero", 0): tally(0, 0),
      ])
    let differences = compare(expected: expected, actual: actual)
    #expect(
      differences.map(\.key)
        == [key("a", 0), key("b", 0), key("b", 60), key("c", 0), key("d", 0)])
    #expect(
      differences.first
        == Difference(
          window: .hour, key: key("a", 0), expected: tally(7, 2), actual: tally(8, 2)))
    #expect(compare(expected: expected, actual: expected).isEmpty)
  }

  @Test("Licenses whose names are canonically equivalent have rows of their own")
  func keysAreExact() {
    #expect("\u{E9}" == "e\u{301}")
    #expect(key("\u{E9}", 0) != key("e\u{301}", 0))
    #expect(Set([key("\u{E9}", 0), key("e\u{301}", 0)]).count == 2)
  }

  @Test("Combined partitions keep separate positions, and their numbers are added up")
  func mergesPartitions() {
    var result = RecountResult()
    for partition in [Int32(0), 1] {
      var recount = PartitionRecount(
        partition: partition, settings: RecountSettings(), countFrom: 0)
      var good = EventFixture().at(0)
      good.partition = partition
      var bad = EventFixture().with("time", "0").with("sequence", "9999").at(1)
      bad.partition = partition
      _ = recount.feed(good.record)
      _ = recount.feed(bad.record)
      result.merge(recount)
    }
    #expect(result.totals.rows.values.map(\.quantity) == [6])
    #expect(result.provenance.count == 2)
    #expect(result.dimensionTotals.values.map(\.eventCount) == [2, 2])
    #expect(
      result.deadLetters == [
        LogPosition(partition: 0, offset: 1): "bad_time",
        LogPosition(partition: 1, offset: 1): "bad_time",
      ])
    #expect(result.ledger == ["eu-1-7f3a": LedgerEntry(counted: 2, deadLettered: 2)])
  }
}
