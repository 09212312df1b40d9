import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore
import ServiceRuntime

/// Reads the parameters of `GET /v1/usage` and turns them into a question to the store.
struct UsageParameters: Sendable {
  enum Group: String, Sendable, CaseIterable {
    case license
    case customer
    case meter
    case domain
    case feature
  }

  private(set) var question: UsageStore.Question
  /// Nil for `current_period` and `last_period`, if each license has its own range.
  private(set) var times: UsageTimes?
  /// Whether the licenses must share one billing period, because it is cut into windows, filled,
  /// compared, or grouped by domain or feature. Then `setSharedPeriod` completes the question.
  private(set) var needsSharedPeriod = false
  let zone: UsageZone
  private let window: UsageWindow
  /// Seconds since 1970.
  private let now: Int64
  let list: ListWindow
  let comparesPrevious: Bool

  /// Whether one message reads the whole answer, so that it needs no transaction around it.
  var isReadAtOnce: Bool { !question.mayReadTotals }

  private static let mostTop: Int64 = 1_000

  /// - Parameter now: milliseconds since 1970.
  /// - Throws: 400 for a wrong parameter. 404 for a customer that the caller may not see.
  init(_ fields: inout Fields, now: Int64, caller: Caller) throws {
    var question = UsageStore.Question(windows: .currentPeriod(0))
    question.licenses = fields.identifiers("license_id")
    question.customers = fields.identifiers("customer_id")
    question.meters = fields.meters("meter")
    let from = fields.time("from")
    let to = fields.time("to")
    let name: NamedRange? = fields.choice("range")
    window = fields.choice("window") ?? .total
    self.now = now / 1_000
    let zoneName = fields.text("time_zone", atMost: 64)
    let zone = zoneName.map { UsageZone($0) } ?? .utc
    if zone == nil {
      fields.blame("time_zone", "It must be the IANA name of a zone, such as Europe/Berlin.")
    }
    self.zone = zone ?? .utc
    Self.readGroups(&fields, &question)
    question.top = fields.integer("top", in: 1...Self.mostTop).map { Int($0) }
    question.fillsWindows = fields.choice("fill", of: ["zero"]) != nil
    comparesPrevious = fields.choice("compare", of: ["previous"]) != nil
    list = fields.listWindow(most: 10_000)
    Self.checkRange(&fields, from, to, name)
    Self.checkCombinations(
      &fields, question, window, self.zone, comparesPrevious: comparesPrevious)
    try fields.finish()
    try Self.bind(&question, to: caller)
    self.question = question
    if let name, name == .currentPeriod || name == .lastPeriod {
      let day = floorDivide(now, 86_400_000)
      self.question.windows = name == .currentPeriod ? .currentPeriod(day) : .lastPeriod(day)
      let isSum = window == .total && !question.fillsWindows && !comparesPrevious
      needsSharedPeriod = window != .period && (!isSum || question.dimension != nil)
      return
    }
    let named = name?.range(now: self.now, zone: self.zone, byDay: question.dimension != nil)
    let range = try named ?? Self.seconds(from ?? 0, to ?? 0)
    try setTimes(range.from, range.to)
  }

  /// Makes the only billing period of the question's licenses its range.
  ///
  /// - Parameter periods: the licenses' different periods, in days since 1970.
  /// - Throws: 400 if there are several, or if the stored rows cannot answer the windows.
  mutating func setSharedPeriod(among periods: [Range<Int64>]) throws {
    guard let period = periods.first, periods.count == 1 else {
      throw Problem.badParameter(
        "range",
        "The licenses have different billing periods. Name licenses that have the same period, "
          + "give from and to, or take the sum of each period with window=period.")
    }
    try setTimes(period.lowerBound * 86_400, period.upperBound * 86_400)
  }

  private mutating func setTimes(_ from: Int64, _ to: Int64) throws {
    do throws(UsageTimes.Failure) {
      let times = try UsageTimes(from: from, to: to, window: window, zone: zone, now: now)
      let runs = UsageStore.Runs(times.plan, bounds: times.bounds)
      if question.dimension != nil, !times.plan.hours.isEmpty || !times.plan.minutes.isEmpty {
        throw UsageTimes.Failure.notAnswerable(Self.byDayOnly(times))
      }
      question.windows = window == .period ? .periods(runs) : .bounds(runs)
      if comparesPrevious {
        let previous = try times.previous(now: now)
        question.previous = UsageStore.Runs(previous.plan, bounds: previous.bounds)
      }
      self.times = times
    } catch {
      throw Problem(error, window)
    }
  }

  private static func byDayOnly(_ times: UsageTimes) -> UsageTimes.Refusal {
    func around(_ bound: Int64) -> [Int64] {
      let day = floorDivide(bound, 86_400) * 86_400
      return day == bound ? [] : [day, day + 86_400]
    }
    return UsageTimes.Refusal(
      nearestFrom: around(times.from), nearestTo: around(times.to),
      bound: times.from % 86_400 == 0 ? times.to : times.from, finest: .day)
  }

  /// Restricts a customer's token to that customer.
  private static func bind(_ question: inout UsageStore.Question, to caller: Caller) throws {
    guard let own = caller.customerID else { return }
    for customer in question.customers { try caller.requireCustomer(customer) }
    question.customers = [own]
  }

  private static func readGroups(_ fields: inout Fields, _ question: inout UsageStore.Question) {
    guard let text = fields.text("group_by", atMost: 100) else { return }
    let words = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    let groups = words.compactMap { Group(rawValue: $0) }
    guard groups.count == words.count, Set(groups).count == groups.count else {
      fields.blame(
        "group_by", "It must be any of license, customer and meter, or one of domain and feature.")
      return
    }
    if groups.contains(.domain) || groups.contains(.feature) {
      guard groups.count == 1 else {
        fields.blame(
          "group_by", "domain and feature cannot be combined with other groups.")
        return
      }
      question.dimension = groups == [.domain] ? .domain : .feature
    }
    question.byLicense = groups.contains(.license)
    question.byCustomer = groups.contains(.customer)
    question.byMeter = groups.contains(.meter)
  }

  private static func checkRange(
    _ fields: inout Fields, _ from: Int64?, _ to: Int64?, _ name: NamedRange?
  ) {
    if name != nil {
      for (parameter, value) in [("from", from), ("to", to)] where value != nil {
        fields.blame(parameter, "Give either range, or from and to.")
      }
    } else if !fields.errors.contains(where: { ["from", "to", "range"].contains($0.parameter) }) {
      if from == nil { fields.blame("from", "It is required unless range is given.") }
      if to == nil { fields.blame("to", "It is required unless range is given.") }
      if let from, let to, from >= to { fields.blame("to", "It must be later than from.") }
    }
  }

  private static func checkCombinations(
    _ fields: inout Fields, _ question: UsageStore.Question, _ window: UsageWindow,
    _ zone: UsageZone, comparesPrevious: Bool
  ) {
    if window == .period {
      if !zone.isUTC { fields.blame("time_zone", "Billing periods begin at midnight UTC.") }
      if question.fillsWindows { fields.blame("fill", "It cannot be used with window=period.") }
      if comparesPrevious { fields.blame("compare", "It cannot be used with window=period.") }
      if question.dimension != nil {
        fields.blame("group_by", "domain and feature need the window day, month or total.")
      }
    }
    if question.dimension != nil {
      if !zone.isUTC { fields.blame("time_zone", "Domains and features are kept by UTC day.") }
      if window == .minute || window == .hour {
        fields.blame("window", "Domains and features are kept by day. Use day, month or total.")
      }
    }
  }

  /// The range of a question that has no windows.
  ///
  /// - Parameters:
  ///   - from, to, now: milliseconds since 1970, `from < to`.
  /// - Returns: the range in seconds since 1970.
  /// - Throws: 400 if the stored rows cannot be cut at its bounds.
  static func answerable(
    from: Int64, to: Int64, now: Int64
  ) throws(Problem) -> (from: Int64, to: Int64) {
    let range = try seconds(from, to)
    do throws(UsageTimes.Failure) {
      _ = try UsageTimes(
        from: range.from, to: range.to, window: .total, zone: .utc, now: now / 1_000)
    } catch {
      throw Problem(error, .total)
    }
    return range
  }

  private static func seconds(
    _ from: Int64, _ to: Int64
  ) throws(Problem) -> (from: Int64, to: Int64) {
    if from % 1_000 == 0, to % 1_000 == 0 { return (from / 1_000, to / 1_000) }
    func around(_ time: Int64) -> [Int64] {
      let minute = floorDivide(time, 60_000) * 60
      return time % 1_000 == 0 ? [] : [minute, minute + 60]
    }
    throw Problem(
      .notAnswerable(
        UsageTimes.Refusal(
          nearestFrom: around(from), nearestTo: around(to), bound: floorDivide(from, 1_000),
          finest: .minute)), .total)
  }
}

extension UsageStore.Runs {
  fileprivate init(_ plan: UsagePlan, bounds: [Int64]) {
    self.init(days: plan.days, hours: plan.hours, minutes: plan.minutes, bounds: bounds)
  }
}

extension Problem {
  /// Refuses a range that the stored rows cannot answer exactly.
  fileprivate init(_ failure: UsageTimes.Failure, _ window: UsageWindow) {
    switch failure {
    case .tooManyWindows(let finest):
      self.init(
        .badRequest, "range_not_answerable",
        "The range has more than \(UsageWindow.mostWindows) windows. Take a longer window.",
        errors: [Blame(parameter: "window", detail: "It is too fine for the range.")],
        members: Self.members(finest))
    case .noPrevious:
      self = .badParameter(
        "compare",
        "The range before this one would begin before the year 1. Ask for a shorter range.")
    case .notAnswerable(let refusal): self.init(refusal, window)
    }
  }

  private init(_ refusal: UsageTimes.Refusal, _ window: UsageWindow) {
    func times(_ seconds: [Int64]) -> String {
      seconds.map { TimeText.write($0 * 1_000) }.joined(separator: " or ")
    }
    var errors: [Blame] = []
    for (name, nearest) in [("from", refusal.nearestFrom), ("to", refusal.nearestTo)]
    where !nearest.isEmpty {
      errors.append(
        Blame(parameter: name, detail: "The nearest times that work are \(times(nearest))."))
    }
    if errors.isEmpty {
      let bound = TimeText.write(refusal.bound * 1_000)
      errors.append(
        Blame(parameter: "window", detail: "The stored rows cannot be cut at \(bound)."))
    }
    var members: [(name: String, json: [UInt8])] = []
    for (name, nearest) in [
      ("nearest_from", refusal.nearestFrom), ("nearest_to", refusal.nearestTo),
    ] where !nearest.isEmpty {
      var json = JSONWriter()
      json.beginArray()
      for time in nearest { json.text(TimeText.write(time * 1_000)) }
      json.endArray()
      members.append((name, json.bytes))
    }
    self.init(
      .badRequest, "range_not_answerable",
      "Minutes are kept for 7 days and hours for 400 days. Before that, bounds must be UTC days. "
        + (refusal.finest.map { "The finest window that works is \($0.rawValue)." } ?? ""),
      errors: errors, members: members + Self.members(refusal.finest))
  }

  private static func members(_ finest: UsageWindow?) -> [(name: String, json: [UInt8])] {
    finest.map { [("finest_window", Array("\"\($0.rawValue)\"".utf8))] } ?? []
  }

  /// Refuses a range whose minutes retention has already deleted.
  static func minutesGone(_ times: UsageTimes) -> Problem {
    func around(_ bound: Int64) -> [Int64] {
      let hour = floorDivide(bound, 3_600) * 3_600
      return hour == bound ? [] : [hour, hour + 3_600]
    }
    return Problem(
      UsageTimes.Refusal(
        nearestFrom: around(times.from), nearestTo: around(times.to), bound: times.from,
        finest: .hour), times.window)
  }
}
