import Billing
import Testing

/// Windows are cut by the zone's clocks and summed up from rows in UTC.
@Suite struct UsagePlanTests {
  private static let zones = [
    "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe",
    "Africa/Casablanca",
  ]
  /// 2025-01-01 and 2027-01-01, in days since 1970.
  private static let years: Range<Int64> = 20_089..<20_819
  /// This is after both years, so that hours of them are kept.
  private static let now: Int64 = 20_819 * 86_400

  /// A number for each minute, from which hours and days are summed up.
  private func quantity(minute: Int64) -> Int64 { (minute % 7_919) * (minute % 13) + 1 }

  /// The instants at which the zone's clocks change, in these years.
  private func changes(_ zone: UsageZone) -> [Int64] {
    var found: [Int64] = []
    var hour = Self.years.lowerBound * 24
    while hour < Self.years.upperBound * 24 {
      if zone.offset(at: hour * 3_600) != zone.offset(at: (hour + 1) * 3_600) {
        found.append(hour * 3_600)
      }
      hour += 1
    }
    return found
  }

  /// The sum of the plan's rows within `[from, to)`, unit by unit. It is nil if a unit lies across
  /// a bound.
  private func sum(_ plan: UsagePlan, _ from: Int64, _ to: Int64) -> Int64? {
    var sum: Int64 = 0
    func add(_ start: Int64, _ length: Int64) -> Bool {
      if start + length <= from || start >= to { return true }
      guard start >= from, start + length <= to else { return false }
      for minute in start / 60..<(start + length) / 60 { sum += quantity(minute: minute) }
      return true
    }
    for run in plan.days { for day in run where !add(day * 86_400, 86_400) { return nil } }
    for run in plan.hours {
      for hour in stride(from: run.lowerBound, to: run.upperBound, by: 3_600)
      where !add(hour, 3_600) { return nil }
    }
    for run in plan.minutes {
      for minute in stride(from: run.lowerBound, to: run.upperBound, by: 60)
      where !add(minute, 60) { return nil }
    }
    return sum
  }

  private func sumOfMinutes(_ from: Int64, _ to: Int64) -> Int64 {
    (from / 60..<to / 60).reduce(0) { $0 + quantity(minute: $1) }
  }

  @Test(arguments: zones)
  func `Over every change of clocks, days sum up the hours below, or the request is refused`(
    name: String
  ) throws {
    let zone = try #require(UsageZone(name))
    let changes = changes(zone)
    #expect(name == "Asia/Kolkata" ? changes.isEmpty : changes.count >= 4)
    for change in changes + [Self.years.lowerBound * 86_400 + 200 * 86_400] {
      let day = zone.day(at: change)
      let (from, to) = (zone.start(ofDay: day - 2), zone.start(ofDay: day + 3))
      for (now, keepsMinutes) in [(to, true), (to + 30 * 86_400, false)] {
        do throws(UsageTimes.Failure) {
          let times = try UsageTimes(from: from, to: to, window: .day, zone: zone, now: now)
          #expect(times.bounds.count == 6)
          var total: Int64 = 0
          for (start, end) in zip(times.bounds, times.bounds.dropFirst()) {
            #expect([23, 24, 25].contains((end - start) / 3_600), "\(name) \(start)")
            let found = sum(times.plan, start, end)
            #expect(found == sumOfMinutes(start, end), "\(name): \(start) to \(end)")
            total += found ?? 0
          }
          #expect(total == sumOfMinutes(from, to))
          #expect(keepsMinutes || times.bounds.allSatisfy { $0 % 3_600 == 0 })
        } catch {
          // This happens only if a midnight lies within an hour whose minutes are gone.
          #expect(!keepsMinutes)
          guard case .notAnswerable(let refusal) = error else {
            Issue.record("\(error)")
            return
          }
          #expect(refusal.bound % 3_600 != 0 && refusal.finest != nil)
        }
      }
    }
  }

  @Test(arguments: zones)
  func `Months of both years follow each other and sum up to the whole`(name: String) throws {
    let zone = try #require(UsageZone(name))
    let first = CivilMonth(ofDay: Self.years.lowerBound)
    let (from, to) = (
      zone.start(of: first), zone.start(of: CivilMonth(index: first.index + 24))
    )
    let bounds = try #require(UsageWindow.month.bounds(from: from, to: to, zone: zone))
    #expect(bounds.count == 25 && bounds.first == from && bounds.last == to)
    let days = try #require(UsageWindow.day.bounds(from: from, to: to, zone: zone))
    #expect(days.count == 731 && Set(days).isSuperset(of: bounds))
    for day in zip(days, days.dropFirst()) { #expect(day.1 - day.0 >= 23 * 3_600) }
  }

  @Test func `A day begins when its date does, where midnight is skipped and where it comes twice`()
    throws
  {
    // In Cairo, clocks skip the midnight of 2025-04-25. In Havana, that of 2025-11-02 comes twice.
    let cairo = try #require(UsageZone("Africa/Cairo"))
    #expect(cairo.start(ofDay: 20_203) == 1_745_532_000)
    #expect(cairo.start(ofDay: 20_204) - cairo.start(ofDay: 20_203) == 23 * 3_600)
    let havana = try #require(UsageZone("America/Havana"))
    let start = havana.start(ofDay: 20_394)
    #expect(havana.start(ofDay: 20_395) - start == 25 * 3_600)
    #expect(havana.day(at: start) == 20_394 && havana.day(at: start - 1) == 20_393)
  }

  @Test(arguments: [
    "", "CET", "GMT+3", "Mars/Phobos", "europe/berlin ", "../../etc/passwd", "UTC\0",
  ])
  func `A text that is not the name of a zone is refused`(name: String) {
    #expect(UsageZone(name) == nil)
  }

  @Test func `A bound is answered by days, by hours for 400 days, by minutes for 7`() throws {
    let day = Self.now / 86_400
    func plan(_ from: Int64, _ to: Int64) throws(UsagePlan.Refusal) -> UsagePlan {
      try UsagePlan(bounds: [from, to], now: Self.now)
    }
    let days = try plan((day - 4_000) * 86_400, day * 86_400)
    #expect(days.days == [day - 4_000..<day] && days.hours.isEmpty && days.minutes.isEmpty)
    let hours = try plan((day - 399) * 86_400 + 3_600, day * 86_400)
    #expect(hours.days == [day - 398..<day] && hours.minutes.isEmpty)
    #expect(hours.hours == [(day - 399) * 86_400 + 3_600..<(day - 398) * 86_400])
    let minutes = try plan((day - 6) * 86_400 + 60, (day - 6) * 86_400 + 3_660)
    #expect(minutes.minutes.map { ($0.upperBound - $0.lowerBound) / 60 } == [60])
    #expect(minutes.days.isEmpty && minutes.hours.isEmpty)
    #expect(throws: UsagePlan.Refusal.self) { try plan((day - 401) * 86_400 + 3_600, day * 86_400) }
    #expect(throws: UsagePlan.Refusal.self) { try plan((day - 8) * 86_400 + 60, day * 86_400) }
    #expect(throws: UsagePlan.Refusal.self) { try plan((day - 1) * 86_400 + 61, day * 86_400) }
  }

  @Test func `A refusal names the nearest bounds and the finest window that works`() {
    let day = Self.now / 86_400
    func refusal(_ from: Int64, _ to: Int64, _ window: UsageWindow) -> UsageTimes.Refusal? {
      do throws(UsageTimes.Failure) {
        _ = try UsageTimes(from: from, to: to, window: window, zone: .utc, now: Self.now)
        return nil
      } catch {
        if case .notAnswerable(let refusal) = error { return refusal }
        return nil
      }
    }
    let start = (day - 20) * 86_400 + 1_800
    let edge = refusal(start, day * 86_400, .total)
    #expect(edge?.nearestFrom == [start - 1_800, start + 1_800])
    #expect(edge?.nearestTo == [] && edge?.finest == .hour)
    let old = refusal((day - 500) * 86_400 + 3_600, (day - 499) * 86_400, .hour)
    #expect(old?.nearestFrom == [(day - 500) * 86_400, (day - 499) * 86_400])
    #expect(old?.finest == .day)
    let inner = refusal((day - 20) * 86_400, (day - 19) * 86_400, .minute)
    #expect(inner?.nearestFrom == [] && inner?.nearestTo == [] && inner?.finest == .hour)
  }

  @Test func `An absurd range has too many windows, or is one sum`() throws {
    let end: Int64 = 253_402_214_400
    #expect(UsageWindow.day.bounds(from: 0, to: end, zone: .utc) == nil)
    #expect(UsageWindow.minute.bounds(from: 0, to: end, zone: .utc) == nil)
    let zone = try #require(UsageZone("Europe/Berlin"))
    #expect(UsageWindow.month.bounds(from: 0, to: end, zone: zone) == nil)
    let plan = try UsagePlan(bounds: [-62_135_596_800, end], now: Self.now)
    #expect(plan.days.count == 1)
  }

  @Test func `One range earlier is by months, by days of the zone, or by length`() throws {
    let zone = try #require(UsageZone("Europe/Berlin"))
    let march = CivilMonth(ofDay: 20_513)
    let now = zone.start(of: march.next)
    let month = try UsageTimes(
      from: zone.start(of: march), to: now, window: .day, zone: zone, now: now)
    let february = try month.previous(now: now)
    #expect(february.bounds.count == month.bounds.count)
    #expect(february.bounds.first == zone.start(of: CivilMonth(index: march.index - 1)))
    #expect(february.bounds.last == zone.start(of: march))
    #expect(zip(february.bounds, february.bounds.dropFirst()).allSatisfy { $0 <= $1 })
    // The four days around the change of clocks are compared with the four days before them.
    let days = try UsageTimes(
      from: zone.start(ofDay: 20_540), to: zone.start(ofDay: 20_544), window: .day, zone: zone,
      now: now)
    #expect(try days.previous(now: now).bounds == (20_536...20_540).map { zone.start(ofDay: $0) })
    let hours = try UsageTimes(
      from: 7_200, to: 14_400, window: .hour, zone: .utc, now: 20_000)
    #expect(try hours.previous(now: 20_000).bounds == [0, 3_600, 7_200])
  }

  @Test func `A month that begins on any day up to the 28th moves by a month`() throws {
    let now: Int64 = 20_819 * 86_400
    func previous(_ from: Int64, _ to: Int64, _ window: UsageWindow) throws -> [Int64] {
      try UsageTimes(from: from * 86_400, to: to * 86_400, window: window, zone: .utc, now: now)
        .previous(now: now).bounds.map { $0 / 86_400 }
    }
    let (september, october, november) = (20_697, 20_727, 20_758) as (Int64, Int64, Int64)
    let (december, january) = (20_788, 20_819) as (Int64, Int64)
    // From November 15 to December 15 there are 30 days, and 31 from October 15 on.
    let totals = try previous(november + 14, december + 14, .total)
    #expect(totals == [october + 14, november + 14])
    let months = try previous(november + 14, december + 14, .month)
    #expect(months == [october + 14, november, november + 14])
    let days = try previous(november + 14, december + 14, .day)
    #expect(days.count == 31 && days.first == october + 14 && days.last == november + 14)
    // The range before is shorter. No window reaches into the range itself.
    let longer = try previous(october + 27, november + 27, .day)
    #expect(longer.count == 32 && longer.first == september + 27 && longer.last == october + 27)
    #expect(longer == longer.sorted())
    // Not every month has a 29th.
    #expect(try previous(november + 28, december + 28, .total).first == november - 2)
    #expect(try previous(december, january, .total) == [november, december])
  }

  @Test func `There is no range before one that would begin before the year 1`() throws {
    let (first, last): (Int64, Int64) = (-62_135_596_800, 253_402_214_400)
    func previous(_ from: Int64, _ to: Int64) throws -> Int64? {
      try UsageTimes(from: from, to: to, window: .total, zone: .utc, now: last)
        .previous(now: last).bounds.first
    }
    #expect(throws: UsageTimes.Failure.noPrevious) { try previous(first, last) }
    #expect(throws: UsageTimes.Failure.noPrevious) { try previous(first, first + 86_400) }
    #expect(try previous(first + 86_400, first + 2 * 86_400) == first)
  }

  @Test func `Named ranges are whole months, or end with the running hour`() {
    let now: Int64 = 1_795_775_520  // 2026-11-27T10:32:00Z
    let month = NamedRange.thisMonth.range(now: now, zone: .utc, byDay: false)
    #expect(month?.from == 1_793_491_200 && month?.to == 1_796_083_200)
    let last = NamedRange.lastMonth.range(now: now, zone: .utc, byDay: false)
    #expect(last?.from == 1_790_812_800 && last?.to == 1_793_491_200)
    let day = NamedRange.last24h.range(now: now, zone: .utc, byDay: false)
    #expect(day?.to == 1_795_777_200 && day?.from == 1_795_777_200 - 86_400)
    let week = NamedRange.last7d.range(now: now, zone: .utc, byDay: true)
    #expect(week?.to == 1_795_824_000 && week?.from == 1_795_824_000 - 7 * 86_400)
    #expect(NamedRange.currentPeriod.range(now: now, zone: .utc, byDay: false) == nil)
  }
}
