import ArgumentParser
import Metering
import PostgresStore

/// `meterctl adjust`: corrects the usage of a license in a period by hand.
struct Adjust: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Correct a license's usage in a billing period.",
    discussion: """
      The usage itself never changes. The adjustment is kept beside it, counts toward the \
      license's limit, and goes on the invoice of its period, or of the next open one if that \
      period is closed. An adjustment is never changed or deleted. --reverse records its \
      counter-entry.

      Example: meterctl adjust --license lic_abc123 --period 2026-11-01 --quantity -500 \
      --reason 'test traffic, agreed with the customer'
      """)

  @Option(help: "The license.")
  var license: String?

  @Option(help: "The meter.")
  var meter = "api_calls"

  @Option(help: "The first day of the period, such as 2026-11-01, or the id of the period.")
  var period: String?

  @Option(
    parsing: .unconditional,
    help: "The amount to add, in units of the meter. A negative amount is a credit.")
  var quantity: Int64?

  @Option(parsing: .unconditional, help: "How many events to add.")
  var eventCount: Int64 = 0

  @Option(help: "The reason, for the invoice and the record.")
  var reason: String

  @Option(help: ArgumentHelp("Reverse this adjustment.", valueName: "adjustment"))
  var reverse: String?

  @Option(help: "A key of your choice. Requests with the same key are recorded once.")
  var idempotencyKey: String?

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard reason.utf8.count <= 1_000, !reason.isBlank else {
      throw ValidationError("--reason must have 1 to 1,000 bytes and not be blank")
    }
    if reverse != nil {
      guard license == nil, period == nil, quantity == nil else {
        throw ValidationError("--reverse takes only --reason")
      }
      return
    }
    guard let quantity, let period else {
      throw ValidationError("--license, --period and --quantity are required")
    }
    guard quantity != 0 || eventCount != 0 else {
      throw ValidationError("--quantity must not be 0")
    }
    let most = AdjustmentStore.maximumQuantity
    guard (-most...most).contains(quantity), (-most...most).contains(eventCount) else {
      throw ValidationError("--quantity must be from -\(most) to \(most)")
    }
    guard place(period) != nil else {
      throw ValidationError(
        "--period must be a day such as 2026-11-01 together with --license, or the id of a period")
    }
    guard MeterName.isValid(meter) else {
      throw ValidationError("--meter must match [a-z][a-z0-9_]{0,63}")
    }
  }

  private func place(_ period: String) -> PeriodID? {
    if UTCTime.isDay(period), let license, !license.isEmpty, !license.utf8.contains(0) {
      return PeriodID(license: Identifier(license), meter: meter, start: period)
    }
    guard let id = PeriodID(period) else { return nil }
    return license.map { Identifier($0) == id.license } ?? true ? id : nil
  }

  func run() throws {
    let connection = try Connections().database("adjust")
    let store = AdjustmentStore(connection)
    let entry = try connection.transaction { () throws -> AdjustmentStore.Entry in
      let id = try recorded(try outcome(store))
      guard let entry = try store.adjustment(id) else { throw Failure("the adjustment is gone") }
      try AuditStore(connection).record(
        AuditedChange(
          reverse == nil ? "adjustment.create" : "adjustment.reverse", "adjustment", id,
          customerID: entry.customer?.string, after: Self.json(entry).compact),
        by: Connections.operatorContext)
      return entry
    }
    output.print(
      Self.json(entry),
      text: "\(entry.id)\n\(entry.quantity) \(entry.meter) of \(entry.license), invoiced with the "
        + "period that begins on \(UTCTime.day(entry.invoiced))")
  }

  private func outcome(_ store: AdjustmentStore) throws -> AdjustmentStore.Outcome {
    let by = "operator:" + Connections.operatorContext.actorID
    if let reverse {
      return try store.reverse(
        reverse, reason: reason, recordedBy: by, idempotencyKey: idempotencyKey)
    }
    guard let place = period.flatMap(place), let quantity else { throw Failure("no period") }
    return try store.adjust(
      AdjustmentStore.Adjustment(
        license: place.license, meter: place.meter, appliesTo: place.start, quantity: quantity,
        eventCount: eventCount, reason: reason, recordedBy: by, idempotencyKey: idempotencyKey))
  }

  private func recorded(_ outcome: AdjustmentStore.Outcome) throws -> String {
    switch outcome {
    case .recorded(let id), .repeated(let id): return id
    case .idempotencyMismatch: throw Failure("the key belongs to another adjustment")
    case .notAPeriodStart(let day):
      throw Failure(
        "no period of this license begins on that day; the one that contains it begins on \(day)")
    case .notBegun: throw Failure("the period has not begun")
    case .beforeFirstPeriod(let day):
      throw Failure(
        "the license has no usage in that period, and its first period begins on \(day)")
    case .unknownLicense:
      throw Failure("there is no such license: nobody registered it, and it has no usage")
    case .unknownAdjustment: throw Failure("there is no such adjustment")
    case .alreadyReversed: throw Failure("the adjustment already has its counter-entry")
    case .stillOpen:
      throw Failure(
        "a late adjustment becomes final when the period that invoices it is closed; reverse it after that"
      )
    }
  }

  static func json(_ entry: AdjustmentStore.Entry) -> JSON {
    [
      "adjustment_id": .text(entry.id), "license_id": .text(entry.license.string),
      "meter": .text(entry.meter),
      "applies_to_period_start": .text(Moment(milliseconds: entry.appliesTo).description),
      "invoiced_period_start": .text(Moment(milliseconds: entry.invoiced).description),
      "kind": .text(entry.kind), "quantity": .integer(entry.quantity),
      "event_count": .integer(entry.eventCount), "reason": .text(entry.reason),
      "recorded_by": .text(entry.recordedBy),
      "recorded_at": .text(Moment(milliseconds: entry.recordedAt).description),
      "reverses": .optional(entry.reverses), "reversed_by": .optional(entry.reversedBy),
    ]
  }
}
