import Billing
import BillingPages
import Metering
import PostgresStore

/// The spans of time that the overview compares, read with one question.
///
/// The question's windows are cut at the ends of all spans, so each span is a sum of windows. Times
/// are in milliseconds since 1970.
struct OverviewSpans: Sendable {
  /// The beginning of the current hour.
  let hour: Int64
  let midnight: Int64
  let yesterday: Int64
  let month: Int64
  let lastMonth: Int64
  /// The end of the current hour. Its calls so far are counted too.
  private let end: Int64
  /// This is as far into yesterday as the last whole hour is into today.
  private let yesterdayEnd: Int64
  private let lastMonthEnd: Int64
  /// The bounds of the windows, ascending and without repetitions.
  let bounds: [Int64]
  private let now: Int64

  private static let hourLength: Int64 = 3_600_000
  private static let shownHours: Int64 = 24

  init(now: Int64, days: ZoneDays) {
    self.now = now
    hour = now - now % Self.hourLength
    midnight = days.midnight(now)
    yesterday = days.midnight(midnight - Self.hourLength * 12)
    month = days.monthStart(now)
    lastMonth = days.monthStart(month - Self.hourLength * 12)
    end = hour + Self.hourLength
    yesterdayEnd = min(yesterday + max(hour - midnight, 0), midnight)
    lastMonthEnd = min(lastMonth + max(hour - month, 0), month)
    let hours = (0...2 * Self.shownHours).map { [hour] in hour - $0 * Self.hourLength }
    let ends = [lastMonth, lastMonthEnd, month, yesterday, yesterdayEnd, midnight, end]
    bounds = Set(hours + ends).sorted()
  }

  /// The usage of a meter in each window, by the window's number.
  typealias Sums = [Int: Int64]

  struct Read: Sendable {
    var meters: [String: Sums]
    /// How many other meters were used.
    var otherMeters: Int64
    var asOf: Int64
    var completeThrough: Int64?
  }

  /// - Parameter customer: the customer whose usage is read, or nil for all customers.
  func read(
    customer: Identifier?
  ) throws -> @Sendable (PostgresConnection) throws -> Read {
    let seconds = bounds.map { $0 / 1_000 }
    let plan = try UsagePlan(bounds: seconds, now: now / 1_000)
    var question = UsageStore.Question(
      windows: .bounds(
        UsageStore.Runs(
          days: plan.days, hours: plan.hours, minutes: plan.minutes, bounds: seconds)))
    question.customers = customer.map { [$0] } ?? []
    question.byLicense = false
    let asked = question
    var whole = question
    let ends = [seconds.first ?? 0, seconds.last ?? 0]
    whole.windows = .bounds(
      UsageStore.Runs(days: plan.days, hours: plan.hours, minutes: plan.minutes, bounds: ends))
    let ranked = whole
    return { connection in
      let store = UsageStore(connection)
      let found = try store.busiestMeters(ranked, most: Self.mostMeters)
      guard !found.meters.isEmpty else { return Read(meters: [:], otherMeters: 0, asOf: 0) }
      var asked = asked
      asked.meters = found.meters
      let page = try store.page(asked, limit: found.meters.count * seconds.count)
      var meters: [String: Sums] = [:]
      for row in page.rows {
        meters[row.meter ?? "", default: [:]][Int(row.window)] = row.quantity
      }
      return Read(
        meters: meters, otherMeters: found.all - Int64(found.meters.count),
        asOf: page.standing.asOf, completeThrough: page.standing.completeThrough)
    }
  }

  /// Anybody who may report events chooses their meters, so there may be very many.
  private static let mostMeters = 12

  // MARK: The answer

  /// The last 24 whole hours, each with the same one a day earlier, and the hour that runs. That one
  /// is compared with nothing, because it is not over.
  private func hours(_ sums: Sums) -> [Chart.Point] {
    (0...Self.shownHours).reversed().map { back in
      let start = hour - back * Self.hourLength
      let before = start - Self.shownHours * Self.hourLength
      return Chart.Point(
        start: start, end: start + Self.hourLength,
        value: sum(sums, start, start + Self.hourLength),
        previous: back == 0 ? nil : sum(sums, before, before + Self.hourLength))
    }
  }

  func usage(_ meter: String, _ sums: Sums) -> OverviewPage.Usage {
    OverviewPage.Usage(
      meter: meter,
      today: .init(
        now: sum(sums, midnight, end), wholeHours: sum(sums, midnight, max(hour, midnight)),
        before: sum(sums, yesterday, yesterdayEnd)),
      month: .init(
        now: sum(sums, month, end), wholeHours: sum(sums, month, max(hour, month)),
        before: sum(sums, lastMonth, lastMonthEnd)),
      until: hour, hours: hours(sums), from: hour - Self.shownHours * Self.hourLength, to: end)
  }

  private func sum(_ sums: Sums, _ from: Int64, _ to: Int64) -> Int64 {
    var total = Int128(0)
    for (window, quantity) in sums
    where window + 1 < bounds.count && bounds[window] >= from && bounds[window + 1] <= to {
      total += Int128(quantity)
    }
    return Int64(clamping: total)
  }
}
