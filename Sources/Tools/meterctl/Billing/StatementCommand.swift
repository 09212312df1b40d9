import ArgumentParser
import Billing
import Licensing
import Metering
import PostgresStore

/// `meterctl statement`: shows a customer's usage in the periods that end in a month.
struct StatementCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "statement",
    abstract: "Show a customer's statement for a month.",
    discussion: """
      The statement has the periods whose last day is in the month. With METER_SIGNING_KEY, the \
      JSON of a closed statement is signed. --csv prints its lines.

      Example: meterctl statement --customer cus_42 --month 2026-11 --json
      """)

  @Option(help: "The customer.")
  var customer: String

  @Option(help: "The month, such as 2026-11.")
  var month: String

  @Flag(help: "Print the lines as CSV.")
  var csv = false

  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard month.utf8.count == 7, UTCTime.isDay(month + "-01"), month.utf8.first != 0x30 else {
      throw ValidationError("--month must be written as 2026-11")
    }
    if csv, output.json { throw ValidationError("give --csv or --json, not both") }
  }

  func run() throws {
    let connection = try Connections().database("statement", statementTimeoutMilliseconds: 300_000)
    let document = try StatementStore(connection).document(
      customer: Identifier(customer), month: month)
    guard let statement = document.flatMap({ Statement(document: $0) }) else {
      throw Failure("there is no such customer")
    }
    if output.json {
      let keys = try Connections().signingKeysIfGiven()
      let signature =
        statement.isClosed
        ? keys.flatMap { StatementSigner(keys: $0) }?.sign(statement.canonicalJSON) : nil
      print(String(decoding: statement.json(signature: signature), as: UTF8.self))
      return
    }
    var bytes = CSVText.header(Statement.columns)
    for row in statement.rows { CSVText.append(row, to: &bytes) }
    let lines = String(decoding: bytes, as: UTF8.self)
    if csv {
      print(lines, terminator: "")
    } else {
      print(
        "statement of \(Terminal.printable(customer)) for \(month): "
          + (statement.isClosed ? "closed" : "open"))
      print(
        Terminal.table(Statement.columns.map { $0.uppercased() }, statement.rows.map(Self.texts)))
    }
  }

  private static func texts(_ row: [Cell]) -> [String] {
    row.map { cell in
      switch cell {
      case .text(let text): text
      case .quantity(let value), .integer(let value): Terminal.grouped(value)
      default: ""
      }
    }
  }
}
