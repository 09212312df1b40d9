import ArgumentParser
import Metering
import PostgresStore

extension Periods {
  struct Close: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Close periods that have ended. Their numbers never change afterwards.",
      discussion: """
        Usage that arrives later goes on the next invoice as a late adjustment. Running this \
        command twice, or twice at the same time, closes the periods once. If it was cut off, run \
        it again. If something prevents the close, nothing is closed and the exit status is 1.

        Example: meterctl periods close --ending-before 2026-12-01
        """)

    @OptionGroup var scope: Scope

    @Option(help: ArgumentHelp("Close only this period.", valueName: "period"))
    var period: String?

    @Flag(help: "Close even if something prevents it. This needs --reason.")
    var force = false

    @Option(help: "Why it is closed. This is kept in the record of the close.")
    var reason: String?

    @OptionGroup var output: OutputOptions

    func validate() throws {
      if force, reason?.isEmpty ?? true { throw ValidationError("--force needs --reason") }
      if let reason, !(1...1_000).contains(reason.utf8.count) {
        throw ValidationError("--reason must have 1 to 1,000 bytes")
      }
      if let period, PeriodID(period) == nil {
        throw ValidationError("--period must be an id such as lic_abc123:api_calls:2026-11-01")
      }
    }

    func run() throws {
      let connection = try Connections().database(
        "periods-close", statementTimeoutMilliseconds: 300_000)
      let preview = try scope.preview(connection)
      guard preview.isReady || force else {
        output.print(
          ["code": "not_ready", "blockers": Periods.json(preview.blockers)],
          text: preview.blockers.map { "\($0.code): \($0.detail)" }.joined(separator: "\n"))
        Terminal.error("meterctl: nothing was closed; close later, or with --force and --reason")
        throw Ending.difference
      }
      let request = PeriodStore.CloseRequest(
        endingBefore: Periods.day(scope.endingBefore),
        customer: scope.customer.map(Identifier.init(_:)), isForced: force, reason: reason,
        closedBy: "operator:" + Connections.operatorContext.actorID,
        blockers: Periods.json(preview.blockers).compact)
      let result =
        try period.flatMap { PeriodID($0) }.map { try one($0, request, connection) }
        ?? PeriodStore(connection).close(request)
      let document: JSON = [
        "close_id": result.closeID > 0 ? .text(String(result.closeID)) : nil,
        "closed": .integer(result.closed), "already_closed": .integer(result.alreadyClosed),
      ]
      try AuditStore(connection).record(
        AuditedChange(
          "periods.close", "close", String(result.closeID), customerID: scope.customer,
          after: document.compact), by: Connections.operatorContext)
      output.print(
        document,
        text: "\(Terminal.grouped(result.closed)) periods were closed, "
          + "\(Terminal.grouped(result.alreadyClosed)) were closed before")
    }

    private func one(
      _ id: PeriodID, _ request: PeriodStore.CloseRequest, _ connection: PostgresConnection
    ) throws -> PeriodStore.CloseResult {
      let (outcome, result) = try PeriodStore(connection).closeOne(id, request)
      switch outcome {
      case .closed, .alreadyClosed: return result
      case .notEnded: throw Failure("the period has not ended")
      case .noPeriod: throw Failure("there is no such period")
      }
    }
  }
}
