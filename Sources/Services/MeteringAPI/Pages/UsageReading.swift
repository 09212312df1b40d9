import Billing
import BillingPages
import Metering

/// Reads usage in the form that charts need.
struct UsageReading: Sendable {
  let visit: PageVisit

  struct Answer: Sendable {
    var points: [Chart.Point] = []
    var from: Int64 = 0
    var to: Int64 = 0
    var asOf: Int64?
    var completeThrough: Int64?

    /// The sum of two answers about the same windows.
    func adding(_ other: Answer) -> Answer {
      var sum = self
      for point in other.points {
        guard let place = sum.points.firstIndex(where: { $0.start == point.start }) else {
          sum.points.append(point)
          continue
        }
        let (value, overflows) = sum.points[place].value.addingReportingOverflow(point.value)
        sum.points[place].value = overflows ? (point.value < 0 ? .min : .max) : value
      }
      sum.points.sort { $0.start < $1.start }
      sum.from = min(from, other.from)
      sum.to = max(to, other.to)
      sum.asOf = Self.earlier(asOf, other.asOf)
      sum.completeThrough = Self.earlier(completeThrough, other.completeThrough)
      return sum
    }

    private static func earlier(_ a: Int64?, _ b: Int64?) -> Int64? {
      a.flatMap { a in b.map { min(a, $0) } }
    }
  }

  /// Reads one chart for each meter, which is the sum of what all questions answer. One question
  /// can name only so many licenses.
  func sumByMeter(
    _ questions: [[PageClient.Parameter]], window: String
  ) async throws -> [(meter: String, usage: Answer)] {
    var sums: [String: Answer] = [:]
    for question in questions {
      for (meter, usage) in try await byMeter(question, window: window) {
        sums[meter] = sums[meter].map { $0.adding(usage) } ?? usage
      }
    }
    return sums.map { ($0.key, $0.value) }.sorted { $0.meter < $1.meter }
  }

  /// Reads one chart for each meter.
  ///
  /// - Parameter parameters: the parameters of `GET /v1/usage` except `group_by`, `window` and the
  ///   zone.
  func byMeter(
    _ parameters: [PageClient.Parameter], window: String, compares: Bool = false
  ) async throws -> [(meter: String, usage: Answer)] {
    var all = parameters + [("group_by", "meter"), ("window", window), ("limit", "10000")]
    all.append(("time_zone", visit.context.zone.name))
    if compares { all.append(("compare", "previous")) }
    let data = try await visit.client.get("/v1/usage", all)
    var found: [(meter: String, usage: Answer)] = []
    for row in data["data"].list {
      guard let meter = row["meter"].text, let point = Self.point(row) else { continue }
      if found.last?.meter != meter, let place = found.firstIndex(where: { $0.meter == meter }) {
        found[place].usage.points.append(point)
      } else if found.last?.meter == meter {
        found[found.count - 1].usage.points.append(point)
      } else {
        found.append((meter, Self.frame(data, [point])))
      }
    }
    return found.map { meter, usage in
      var usage = usage
      usage.points.sort { $0.start < $1.start }
      return (meter, usage)
    }.sorted { $0.meter < $1.meter }
  }

  /// Reads the windows of one license and meter.
  func series(
    license: String, meter: String, window: String, range: [PageClient.Parameter]
  ) async throws -> Answer {
    let data = try await visit.client.get(
      "/v1/usage",
      range + [
        ("license_id", license), ("meter", meter), ("window", window), ("fill", "zero"),
        ("time_zone", visit.context.zone.name), ("limit", "10000"),
      ])
    return Self.frame(data, data["data"].list.compactMap(Self.point).sorted { $0.start < $1.start })
  }

  /// Reads the parts of a license's usage by domain or feature, largest first.
  func shares(
    license: String, meter: String, by dimension: String, from: Int64, to: Int64
  ) async throws -> [LicensePage.Share] {
    let data = try await visit.client.getIfAllowed(
      "/v1/usage",
      [
        ("license_id", license), ("meter", meter), ("from", TimeText.write(from)),
        ("to", TimeText.write(to)), ("group_by", dimension), ("limit", "1000"),
      ])
    return (data?["data"].list ?? []).compactMap { row in
      (row[dimension].text ?? row["value"].text).map {
        LicensePage.Share(value: $0, quantity: row["quantity"].integer ?? 0)
      }
    }.sorted { $0.quantity > $1.quantity }
  }

  private static func point(_ row: PageData) -> Chart.Point? {
    guard let start = row["window_start"].time, let end = row["window_end"].time else { return nil }
    return Chart.Point(
      start: start, end: end, value: row["quantity"].integer ?? 0,
      previous: row["previous_quantity"].integer)
  }

  private static func frame(_ data: PageData, _ points: [Chart.Point]) -> Answer {
    Answer(
      points: points, from: data["from"].time ?? 0, to: data["to"].time ?? 0,
      asOf: data["as_of"].time, completeThrough: data["complete_through"].time)
  }
}

/// The boundaries of days and months in a zone.
struct ZoneDays: Sendable {
  let zone: DisplayZone

  /// The last midnight at or before a time, in milliseconds since 1970.
  func midnight(_ time: Int64) -> Int64 {
    let day: Int64 = 86_400_000
    var offset = zone.seconds(time) * 1000
    var found = floor(time + offset, day) - offset
    // The zone's offset may have changed since midnight.
    offset = zone.seconds(found) * 1000
    found = floor(time + offset, day) - offset
    return found <= time ? found : found - day
  }

  /// The first midnight of a time's month.
  func monthStart(_ time: Int64) -> Int64 {
    let text = UTCTime.text(time + zone.seconds(time) * 1000)
    let day = Int64(text.dropFirst(8).prefix(2)) ?? 1
    // Noon of the first day is on that day even if the zone's offset changed in between.
    return midnight(midnight(time) + 43_200_000 - (day - 1) * 86_400_000)
  }

  private func floor(_ time: Int64, _ length: Int64) -> Int64 {
    let rest = time % length
    return time - (rest < 0 ? rest + length : rest)
  }
}
