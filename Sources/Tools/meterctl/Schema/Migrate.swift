import ArgumentParser
import PostgresStore

struct Migrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Bring the database's schema to this build's version.",
    discussion: """
      Applies missing migrations, each in a separate transaction. A lock makes sure that each is \
      applied once, even if two of these commands start at the same time. --check changes nothing, \
      and exits with status 1 and one line if the schema is not current.

      Example: METER_DATABASE_URL=postgresql://metering@localhost/metering meterctl migrate
      """)

  @Flag(help: "Only say whether the schema is current.")
  var check = false

  @OptionGroup var output: OutputOptions

  func run() throws {
    let connection = try Connections().databaseOfAnySchema(
      "migrate", statementTimeoutMilliseconds: 0)
    if check {
      let problem = try Schema.state(connection).problem
      output.print(
        ["current": .boolean(problem == nil), "problem": .optional(problem)],
        text: problem ?? "the schema is current, version \(Schema.version)")
      if problem != nil { throw Ending.difference }
      return
    }
    let applied = try Schema.migrate(connection)
    output.print(
      ["applied": .array(applied.map { .text($0) }), "version": .int(Schema.version)],
      text: applied.isEmpty
        ? "the schema is current, version \(Schema.version)"
        : "applied " + applied.joined(separator: ", "))
  }
}
