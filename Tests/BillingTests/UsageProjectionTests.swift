import Billing
import Testing

@Suite struct UsageProjectionTests {
  /// A Monday.
  private let monday: Int64 = 20_783 - 20_783 % 7 + 4

  @Test func `A weekly shape continues as it was, with no more range than it had`() {
    var days: [Int64: Int64] = [:]
    // There are 100 on weekdays and 10 at weekends, for eight weeks.
    for day in monday - 56..<monday { days[day] = (day - monday + 56) % 7 < 5 ? 100 : 10 }
    let projection = UsageProjection(
      days: days, firstDay: monday - 56, now: monday * 86_400, periodEnd: monday + 14, used: 1_000)
    #expect(
      projection
        == UsageProjection(
          days: days, firstDay: 0, now: monday * 86_400, periodEnd: monday + 14, used: 1_000))
    #expect(projection.quantity == 1_000 + 2 * 520)
    #expect(projection.low == projection.quantity && projection.high == projection.quantity)
  }

  @Test func `Days that differ make a range around the estimate, never below what is used`() {
    var days: [Int64: Int64] = [:]
    for day in monday - 56..<monday { days[day] = (day / 7) % 2 == 0 ? 50 : 150 }
    let projection = UsageProjection(
      days: days, firstDay: monday - 56, now: monday * 86_400 + 43_200, periodEnd: monday + 7,
      used: 400)
    #expect(projection.low < projection.quantity && projection.quantity < projection.high)
    #expect(projection.low >= 400)
    #expect(projection.quantity > 400 + 6 * 50 && projection.quantity < 400 + 7 * 150)
  }

  @Test func `A license that is an hour old continues as it began, within a factor of two`() {
    let now = monday * 86_400 + 3_600
    let projection = UsageProjection(
      days: [monday: 10], firstDay: monday, now: now, periodEnd: monday + 1, used: 10)
    #expect(projection.quantity == 10 + 230)
    #expect(projection.high == 10 + 460 && projection.low >= 10)
  }

  @Test func `A correction moves the estimate and not the pace, and nothing is below zero`() {
    let now = monday * 86_400 + 3_600
    func estimate(_ used: Int64) -> UsageProjection {
      UsageProjection(
        days: [monday: 10], firstDay: monday, now: now, periodEnd: monday + 1, used: used)
    }
    #expect(estimate(4).quantity == 4 + 230)
    #expect(estimate(-40).quantity == -40 + 230 && estimate(-40).low >= 0)
    #expect(estimate(-1_000).quantity == 0 && estimate(-1_000).high == 0)
    let over = UsageProjection(
      days: [:], firstDay: monday, now: (monday + 3) * 86_400, periodEnd: monday + 1, used: -5)
    #expect(over.quantity == 0 && over.low == 0 && over.high == 0)
  }

  @Test func `Without usage none is expected, and a period that is over stays as it is`() {
    let none = UsageProjection(
      days: [:], firstDay: monday - 10, now: monday * 86_400, periodEnd: monday + 10, used: 0)
    #expect(none.quantity == 0 && none.low == 0 && none.high == 0)
    let over = UsageProjection(
      days: [monday: 5], firstDay: monday, now: (monday + 3) * 86_400, periodEnd: monday + 1,
      used: 7)
    #expect(over.quantity == 7 && over.low == 7 && over.high == 7)
  }

  @Test func `The largest numbers neither trap nor overflow`() {
    let most = Int64.max
    let projection = UsageProjection(
      days: [monday - 1: most, monday: most], firstDay: monday - 1, now: monday * 86_400,
      periodEnd: monday + 300, used: most)
    #expect(projection.quantity == most && projection.high == most)
  }
}
