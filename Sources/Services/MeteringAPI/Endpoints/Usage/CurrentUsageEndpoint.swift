import Billing
import HTTPTypes
import JSONText
import Metering
import PostgresStore
import ServiceRuntime

/// `GET /v1/licenses/{id}/usage/current` shows the usage of the running period against its limits,
/// with an estimate for the end of the period.
enum CurrentUsageEndpoint {
  static func routes(_ context: APIContext) -> [Route] {
    [
      .get("/v1/licenses/{id}/usage/current", .usageRead) { request in
        var fields = try request.query
        let quotes = fields.choice("numbers", of: ["string", "number"]) == "string"
        let format: ListWindow.Format? = fields.choice("format")
        try fields.finish()
        let id = try request.parameter("id")
        let caller = request.caller
        let now = WallClock.milliseconds / 1_000
        let found = try await request.context.database.readOnce(for: request.caller.customerID) {
          try CurrentUsage($0, id, now: now)
        }
        // The answer is the same for another customer's license and for one that does not exist, so
        // that ids cannot be probed.
        guard let found, caller.customerID.map({ $0 == found.license.customerID }) ?? true else {
          throw Problem.notFound("license")
        }
        if request.wantsCSV(format) { return found.csv }
        var answer = APIAnswer.object { found.write(to: &$0, quotes, isWhole: true) }
        let stable = APIAnswer.object { found.write(to: &$0, quotes, isWhole: false) }
        if case .bytes(let bytes) = stable.body { answer.headers[.eTag] = ETag.of(bytes) }
        return answer
      }
    ]
  }
}

/// The usage of a license's running period by meter. Pages show the same.
struct CurrentUsage: Sendable {
  struct Meter: Sendable, Equatable {
    let meter: Identifier
    /// The counted usage and the period's manual adjustments, which count towards limits. It is at
    /// least 0.
    let used: Int64
    /// Nil for unlimited.
    let limit: Int64?
    let projected: UsageProjection

    /// Nil if there is no limit.
    var remaining: Int64? { limit.map { used >= $0 ? 0 : $0 - used } }
    /// The used part of the limit in whole percent, rounded down. Nil if there is no limit, or if
    /// the limit is 0.
    var percent: Int64? {
      limit.flatMap { limit in
        limit > 0 ? Int64(clamping: Int128(used) * 100 / Int128(limit)) : nil
      }
    }
    var isOver: Bool { limit.map { used >= $0 } ?? false }
  }

  let id: Identifier
  let license: CurrentUsageStore.License
  let meters: [Meter]
  let asOf: Int64
  let completeThrough: Int64?
  let missing: Int64

  /// Returns nil if nobody registered the license.
  ///
  /// - Parameter now: seconds since 1970.
  init?(_ connection: PostgresConnection, _ id: Identifier, now: Int64) throws {
    let today = floorDivide(now, 86_400)
    let found = try CurrentUsageStore(connection).read(
      id, today: today, daysBack: UsageProjection.daysBack)
    guard let license = found.license else { return nil }
    let (days, adjustments, standing) = (found.days, found.adjustments, found.standing)
    self.id = id
    self.license = license
    asOf = standing.asOf
    completeThrough = standing.completeThrough
    missing = standing.missing
    let limits = Dictionary(license.limits.map { ($0.meter, $0.quantity) }) { first, _ in first }
    let byMeter = Dictionary(grouping: days, by: \.meter)
    let names = Set(byMeter.keys).union(limits.keys).union(adjustments.keys)
    meters = names.sorted().compactMap { meter in
      let own = byMeter[meter] ?? []
      let counted = own.filter { $0.day >= license.periodStart && $0.day < license.periodEnd }
        .reduce(Int64(0)) { Self.add($0, $1.quantity) }
      // A meter without a limit that was used only before this period is left out.
      if limits[meter] == nil, adjustments[meter] == nil,
        !own.contains(where: { $0.day >= license.periodStart })
      {
        return nil
      }
      let used = Self.add(counted, adjustments[meter] ?? 0)
      let projection = UsageProjection(
        days: Dictionary(own.map { ($0.day, $0.quantity) }) { Self.add($0, $1) },
        firstDay: own.first?.day ?? license.periodStart, now: now, periodEnd: license.periodEnd,
        used: used)
      return Meter(meter: meter, used: max(0, used), limit: limits[meter], projected: projection)
    }
  }

  private static func add(_ a: Int64, _ b: Int64) -> Int64 {
    let (sum, overflows) = a.addingReportingOverflow(b)
    return overflows ? .max : sum
  }

  private static let columns = [
    "license_id", "customer_id", "meter", "period_start", "period_end", "used", "limit",
    "remaining", "percent", "is_over", "projected_quantity", "projected_low", "projected_high",
  ]

  /// The answer as CSV, with one line for each meter.
  var csv: APIAnswer {
    var bytes = CSVText.header(Self.columns)
    for meter in meters {
      let cells: [Cell] = [
        .text(id.string), .text(license.customerID.string), .text(meter.meter.string),
        .time(license.periodStart * 86_400_000), .time(license.periodEnd * 86_400_000),
        .quantity(meter.used), .optionalQuantity(meter.limit), .optionalQuantity(meter.remaining),
        .optional(meter.percent), .boolean(meter.isOver), .quantity(meter.projected.quantity),
        .quantity(meter.projected.low), .quantity(meter.projected.high),
      ]
      CSVText.append(cells, to: &bytes)
    }
    return APIAnswer(
      type: "text/csv; charset=utf-8; header=present",
      headers: [.contentDisposition: "attachment; filename=\"current-usage.csv\""], bytes: bytes)
  }

  /// - Parameter isWhole: whether to write `as_of`, which changes even if no number does.
  func write(to json: inout JSONWriter, _ quotes: Bool, isWhole: Bool) {
    func quantity(_ json: inout JSONWriter, _ name: String, _ value: Int64?) {
      json.member(name, cell: .optionalQuantity(value), quotesQuantities: quotes)
    }
    json.member("license_id", id.string)
    json.member("customer_id", license.customerID.string)
    json.member("plan", license.plan)
    json.member("status", license.status)
    json.name("meters")
    json.beginArray()
    for meter in meters {
      json.beginObject()
      json.member("meter", meter.meter.string)
      json.member("period_start", TimeText.write(license.periodStart * 86_400_000))
      json.member("period_end", TimeText.write(license.periodEnd * 86_400_000))
      quantity(&json, "used", meter.used)
      quantity(&json, "limit", meter.limit)
      quantity(&json, "remaining", meter.remaining)
      json.member("percent", cell: .optional(meter.percent))
      json.member("is_over", meter.isOver)
      json.name("projected")
      json.beginObject()
      quantity(&json, "quantity", meter.projected.quantity)
      quantity(&json, "low", meter.projected.low)
      quantity(&json, "high", meter.projected.high)
      json.endObject()
      json.endObject()
    }
    json.endArray()
    json.member("complete_through", cell: .optionalTime(completeThrough))
    json.member("missing", missing)
    if isWhole { json.member("as_of", TimeText.write(asOf)) }
  }
}
