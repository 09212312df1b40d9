import Foundation
import MeteringTestKit
import Testing

@testable import PostgresStore

/// Several statements in one message, and statements that stay prepared.
@Suite struct PipelineTests {
  private func texts(
    _ connection: PostgresConnection, _ statements: [SQLStatement]
  ) throws(PostgresError) -> [[String]] {
    var found = statements.map { _ in [String]() }
    try connection.pipeline(statements, operation: "test") { found[$0].append($1.text(0) ?? "-") }
    return found
  }

  @Test func `Statements of each kind are answered in their order, again and again`() throws {
    let connection = try TestDatabase().connection()
    for n in Int64(1)...12 {
      let found = try texts(
        connection,
        [
          SQLStatement("select $1::bigint", [.integer(n)], .kept),
          SQLStatement("select generate_series(1, $1::int)", [.integer(n)], .once),
          SQLStatement("select where false", []),
          SQLStatement("select null::text", [], .once),
        ])
      #expect(found == [["\(n)"], (1...n).map { "\($0)" }, [], ["-"]])
    }
    #expect(connection.kept.count <= 6)
  }

  @Test func `One plan serves all parameters where that is asked for, and only there`() throws {
    let database = try TestDatabase()
    let connection = try database.connection()
    let mode = "select current_setting('plan_cache_mode') || $1::text"
    for isInTransaction in [false, true] {
      if isInTransaction { try connection.execute("begin") }
      let found = try texts(
        connection,
        [
          SQLStatement(mode, [.text("1")], .kept), SQLStatement(mode, [.text("2")], .once),
          SQLStatement(mode, [.text("3")], .eachTime),
        ])
      #expect(found == [["auto1"], ["force_generic_plan2"], ["auto3"]])
      let blocks = "select current_setting('enable_indexscan')"
      let byBlocks = try texts(
        connection,
        [SQLStatement(mode, [.text("4")], .once), SQLStatement(blocks, [], .onceByBlocks)])
      #expect(byBlocks == [["force_generic_plan4"], ["off"]])
      #expect(
        try texts(connection, [SQLStatement(mode, [.text("5")]), SQLStatement(blocks, [])])
          == [["auto5"], ["on"]])
    }
    try connection.execute("commit")
    let plans = try connection.query(
      "select generic_plans > 0 from pg_prepared_statements where statement = $1",
      [.text(mode)])
    #expect(plans.boolean(0, 0))
  }

  @Test func `All statements of a message see one snapshot, and change nothing`() throws {
    let database = try TestDatabase()
    try database.execute("create table t (n int)")
    let connection = try database.connection()
    try connection.readOnly()
    // The second statement ends only once another connection has committed a row.
    let (url, locked) = (database.url, DispatchSemaphore(value: 0))
    Thread {
      do {
        let other = try PostgresConnection(url: url, application: "test")
        try other.execute("select pg_advisory_lock(7)")
        locked.signal()
        try eventually("the reader waits") {
          try other.query(
            """
            select count(*) from pg_locks where locktype = 'advisory' and not granted
              and database = (select oid from pg_database where datname = current_database())
            """
          ).integer(0, 0) == 1
        }
        try other.execute("insert into t values (1)")
        try other.execute("select pg_advisory_unlock(7)")
      } catch {
        Issue.record(error)
        locked.signal()
      }
    }.start()
    locked.wait()
    let count = SQLStatement("select count(*) from t", [], .kept)
    let found = try texts(
      connection, [count, SQLStatement("select pg_advisory_xact_lock(7)::text", []), count])
    #expect(found[0] == ["0"] && found[2] == ["0"])
    #expect(try texts(connection, [count]) == [["1"]])
    let error = try #require(throws: PostgresError.self) {
      try connection.query("insert into t values (2)")
    }
    #expect(error.sqlState == "25006")
  }

  @Test func `After an error nothing is open, and the next message is carried out`() throws {
    let connection = try TestDatabase().connection()
    for planning in [SQLStatement.Planning.eachTime, .kept, .once] {
      let error = try #require(throws: PostgresError.self) {
        try texts(
          connection,
          [
            SQLStatement("select 1", [], planning),
            SQLStatement("select 1/$1::int", [.int(0)], planning),
            SQLStatement("select 'behind it'", [], planning),
          ])
      }
      #expect(error.sqlState == "22012")
      #expect(!connection.isInTransaction && connection.isOpen)
      let found = try texts(
        connection,
        [
          SQLStatement("select 'behind it'", [], planning),
          SQLStatement("select 1/$1::int", [.int(1)], planning),
        ])
      #expect(found == [["behind it"], ["1"]])
    }
    let error = try #require(throws: PostgresError.self) {
      try texts(connection, [SQLStatement("select nonsense", [], .once)])
    }
    #expect(error.sqlState == "42703")
  }

  @Test func `A statement whose columns changed, or that somebody took away, is prepared again`()
    throws
  {
    let database = try TestDatabase()
    try database.execute("create table t (n int); insert into t values (7)")
    let connection = try database.connection()
    let read = SQLStatement("select * from t", [], .once)
    #expect(try texts(connection, [read]) == [["7"]])
    try database.execute("alter table t alter n type text")
    #expect(try texts(connection, [read]) == [["7"]])
    try connection.execute("deallocate all")
    #expect(try connection.prepared("select * from t", operation: "test").rows == [["7"]])
    #expect(try texts(connection, [read]) == [["7"]])
    // Within a transaction the statement fails, and it works in the next one.
    try database.execute("alter table t alter n type int using n::int")
    #expect(throws: PostgresError.self) {
      try connection.transaction { _ = try texts(connection, [read]) }
    }
    let again = try connection.transaction { try texts(connection, [read]) }
    #expect(again == [["7"]])
    #expect(
      try connection.query("select count(*) from pg_prepared_statements").integer(0, 0) ?? 0 <= 4)
  }

  @Test func `The statements that were used last stay prepared`() throws {
    let connection = try TestDatabase().connection()
    for n in 0..<KeptStatements.most * 2 {
      #expect(try texts(connection, [SQLStatement("select \(n)", [], .kept)]) == [["\(n)"]])
      #expect(try texts(connection, [SQLStatement("select 'often'", [], .kept)]) == [["often"]])
    }
    let server = try connection.query("select statement from pg_prepared_statements").rows
      .compactMap { $0[0] }
    #expect(server.count == KeptStatements.most && connection.kept.count == KeptStatements.most)
    #expect(server.contains("select 'often'") && !server.contains("select 0"))
  }
}
