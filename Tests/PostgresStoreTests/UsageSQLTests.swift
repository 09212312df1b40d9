import Testing

@testable import PostgresStore

@Suite struct UsageSQLTests {
  @Test func `Windows of one length are found without a list of their bounds`() {
    let hour: Int64 = 3_600
    #expect(UsageSQL.length((0...24).map { $0 * hour }) == hour)
    #expect(UsageSQL.length([hour - 60, hour, 2 * hour, 3 * hour, 3 * hour + 60]) == hour)
    #expect(UsageSQL.length([0, 86_400, 172_800, 172_801]) == 86_400)
  }

  @Test func `Runs that touch each other are read as one`() {
    #expect(UsageSQL.joined([5..<7, 0..<2, 7..<9, 2..<3, 6..<8]) == [0..<3, 5..<9])
    #expect(UsageSQL.joined([]) == [])
  }

  @Test(arguments: [
    // The cases are a day with a change of clocks, months, days that begin within an hour, two
    // equal bounds, ends beyond a window, times before 1970, and too few bounds to tell.
    [0, 86_400, 169_200, 255_600], [0, 2_678_400, 5_097_600, 7_776_000],
    [0, 66_600, 153_000, 239_400], [0, 3_600, 3_600, 7_200], [0, 7_200, 10_800, 14_400],
    [3_600, 7_200, 10_800, 18_000], [-3_600, 0, 3_600, 7_200], [0, 3_600], [0, 3_600, 7_200], [],
  ])
  func `Other windows are found by their bounds`(_ bounds: [Int64]) {
    #expect(UsageSQL.length(bounds) == nil)
  }
}
