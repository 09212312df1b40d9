import Administration
import ArgumentParser
import Metering
import PostgresStore
import ServiceRuntime

extension Periods {
  struct Close: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Close periods that have ended. Their numbers never change afterwards.",
      discussion: """
        Usage that arrives later goes on the next invoice as a late adjustment. Running this \
        command twice, or twice at the same time, closes the periods once. If it was cut off, run \
        it again. If something prevents the close, nothing is closed and the exit status is 1.

        Example: meterctl periods close --ending-before 2026-12-01
        Example: meterctl periods close --period lic_abc123:api_calls:2026-11-01
        """)

    @Option(help: "Close periods that end on or before this day in UTC, such as 2026-12-01.")
    var endingBefore: Moment?

    @Option(help: "Close only periods of this customer.")
    var customer: String?

    @Option(
      help: ArgumentHelp(
        "Close only this period. Then --ending-before is not needed.", valueName: "period"))
    var period: String?

    @Flag(help: "Close even if something prevents it. This needs --reason.")
    var force = false

    @Option(help: "Why it is closed. This is kept in the record of the close.")
    var reason: String?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      if force, reason?.isBlank ?? true { throw ValidationError("--force needs --reason") }
      if let reason, reason.utf8.count > 1_000 || reason.isBlank {
        throw ValidationError("--reason must have 1 to 1,000 bytes and not be blank")
      }
      if let period, PeriodID(period) == nil {
        throw ValidationError("--period must be an id such as lic_abc123:api_calls:2026-11-01")
      }
      if period == nil, endingBefore == nil {
        throw ValidationError("--ending-before or --period is required")
      }
    }

    func run() throws {
      let connection = try Connections().database(
        "periods-close", statementTimeoutMilliseconds: 300_000)
      if period == nil { try Periods.checkCustomer(customer, connection) }
      let only = try period.map { try known($0, connection) }
      let end = only.map { UTCTime.day($0.end) } ?? endingBefore.map(Periods.day) ?? ""
      let preview =
        only?.status == .closed
        ? ClosePreview()
        : try Periods.preview(connection, endingBefore: end, customer: customer, only: only)
      guard preview.isReady || force else {
        output.print(
          ["code": "not_ready", "blockers": Periods.json(preview.blockers)],
          text: preview.blockers.map { "\($0.code): \($0.detail)" }.joined(separator: "\n"))
        Terminal.error("meterctl: nothing was closed; close later, or with --force and --reason")
        throw Ending.difference
      }
      let request = PeriodStore.CloseRequest(
        endingBefore: end, customer: customer.map(Identifier.init(_:)), isForced: force,
        reason: reason, closedBy: "operator:" + Connections.operatorContext.actorID,
        blockers: Periods.json(preview.blockers).compact)
      let administrator = Administrator(connection, by: Connections.operatorContext)
      let result =
        try only.map { try one($0, request, administrator) } ?? administrator.close(request)
      output.print(
        [
          "close_id": result.closed > 0 ? .text(String(result.closeID)) : nil,
          "closed": .integer(result.closed), "already_closed": .integer(result.alreadyClosed),
        ],
        text: "\(Terminal.count(result.closed, "period")) \(Self.was(result.closed)) closed, "
          + "\(Terminal.grouped(result.alreadyClosed)) \(Self.was(result.alreadyClosed)) closed "
          + "before")
    }

    private static func was(_ count: Int64) -> String { count == 1 ? "was" : "were" }

    /// The period that `--period` names. The other options must not exclude it.
    private func known(
      _ id: String, _ connection: PostgresConnection
    ) throws -> PeriodStore.Period {
      guard let found = try PeriodID(id).flatMap({ try PeriodStore(connection).period($0) }) else {
        throw Failure("there is no such period")
      }
      if let customer, found.customer != Identifier(customer) {
        throw Failure("the period does not belong to this customer")
      }
      if let endingBefore, found.end > endingBefore.milliseconds {
        throw Failure("the period ends on \(UTCTime.day(found.end)), after --ending-before")
      }
      // --force does not help against this, so it is not offered.
      guard found.end <= WallClock.milliseconds else { throw Failure("the period has not ended") }
      return found
    }

    private func one(
      _ period: PeriodStore.Period, _ request: PeriodStore.CloseRequest,
      _ administrator: Administrator
    ) throws -> PeriodStore.CloseResult {
      let (outcome, result) = try administrator.closeOne(period, request)
      switch outcome {
      case .closed, .alreadyClosed: return result
      case .notEnded: throw Failure("the period has not ended")
      case .noPeriod: throw Failure("there is no such period")
      }
    }
  }
}
