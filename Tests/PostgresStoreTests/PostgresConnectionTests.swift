import Foundation
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct PostgresConnectionTests {
  @Test(
    "No error of a connection holds the password or the URL",
    arguments: [
      "postgresql://user:hunter2@127.0.0.1:1/db",
      "postgresql://user:hunter2@127.0.0.1:notaport/db",
      "postgresql://user:hunter2@[::1/db",
      "postgresql://user:hunter2@127.0.0.1:1/db?nonsense=hunter2",
      "postgresql://user:%hunter2@127.0.0.1:1/db",
      "postgresql://user:a@hunter2@127.0.0.1:1/db",
      "postgresql://user:1/hunter2@127.0.0.1:1/db",
      "postgresql://user:hunter2/a@127.0.0.1:1/db",
      "host=127.0.0.1 port=1 password=hunter2 nonsense=1",
      "host=127.0.0.1 port=1 password='hunter2",
      "password hunter2",
    ])
  func connectionErrors(_ url: String) throws {
    let error = try #require(throws: PostgresError.self) {
      try PostgresConnection(url: url, application: "test")
    }
    #expect(!"\(error)".contains("hunter2"), "\(error)")
    #expect(!error.message.contains("\n"))
    #expect(error.detail == nil)
  }

  @Test func `A refused connection is lost and retriable`() throws {
    let error = try #require(throws: PostgresError.self) {
      try PostgresConnection(url: "postgresql://u@127.0.0.1:1/d", application: "test")
    }
    #expect(error.isConnectionLost && error.isRetriable)
  }

  @Test func `A statement error contains no parameter`() throws {
    let database = try TestDatabase()
    let error = try #require(throws: PostgresError.self) {
      try database.rows("select $1::int", [.text("hunter2-not-a-number")])
    }
    // PostgreSQL quotes the value in its primary message here. Callers decide by the code.
    #expect(error.sqlState == "22P02")
    #expect(!error.isRetriable && !error.isConnectionLost)
  }

  @Test
  func `A server that acknowledges and never answers is given up, and the connection is lost`()
    throws
  {
    let database = try TestDatabase()
    let port = try #require(URLComponents(string: database.url)?.port)
    let proxy = try PostgresProxy(to: port)
    defer { proxy.shutDown() }
    let connection = try PostgresConnection(
      url: proxy.url(like: database.url), application: "test", statementTimeoutMilliseconds: 200,
      graceMilliseconds: 100)
    // The proxy takes the statement for the beginning of a flush, and lets nothing pass.
    proxy.arm(.beforeCopy, .hold)
    let error = try #require(throws: PostgresError.self) {
      try connection.execute("select 'copy usage_pending'")
    }
    #expect(error.isConnectionLost && !connection.isOpen, "\(error)")
    #expect(proxy.waitUntilFired(seconds: 0))
  }

  @Test func `A parameter with NUL is an error, not a shorter text`() throws {
    let connection = try TestDatabase().connection()
    for parameter in [SQLValue.text("lic_1\0x"), .texts(["a", "lic_1\0x"])] {
      let error = try #require(throws: PostgresError.self) {
        try connection.query("select $1::text", [parameter])
      }
      #expect(error.sqlState == "22021" && !error.isRetriable && !"\(error)".contains("lic_1"))
      #expect(throws: PostgresError.self) {
        try connection.transaction {
          try connection.commit(
            with: [SQLStatement("select 1", []), SQLStatement("select $1::text", [parameter])],
            operation: "test")
        }
      }
    }
    // The connection stays usable, outside of any transaction.
    #expect(try connection.query("select $1::text", [.text("a")]).text(0, 0) == "a")
    #expect(try connection.query("select pg_current_xact_id_if_assigned()").text(0, 0) == nil)
  }

  @Test func `A transaction that throws leaves nothing`() throws {
    struct Stop: Error {}
    let database = try TestDatabase()
    try database.execute("create table t (n int)")
    #expect(throws: Stop.self) {
      try database.connection().transaction {
        try database.execute("insert into t values (1)")
        throw Stop()
      }
    }
    #expect(try database.integer("select count(*) from t") == 0)
    // An error from the server ends it in the same way, and the connection stays usable.
    #expect(throws: PostgresError.self) {
      try database.connection().transaction {
        try database.execute("insert into t values (1)")
        try database.execute("insert into t values (1/0)")
      }
    }
    #expect(try database.integer("select count(*) from t") == 0)
  }

  @Test func `Parameters arrive as they were given`() throws {
    let database = try TestDatabase()
    let texts = ["", "a\"b", "a\\b", "{x,y}", "NULL", "größe", " ", "a,b", "'"]
    let rows = try database.rows(
      "select u from unnest($1::text[]) with ordinality x(u, n) order by n", [.texts(texts)])
    #expect(rows.map { $0[0] } == texts)
    let mixed = try database.rows(
      "select $1::text is null, $2::bigint, $3::bool, encode($4::bytea, 'hex'), $5::bigint[]::text, $6::bool[]::text",
      [
        .null, .integer(.min), .boolean(true), .bytes([0, 255]),
        .optionalIntegers([1, nil, .max]), .booleans([true, false]),
      ])
    #expect(
      mixed == [
        ["t", "-9223372036854775808", "t", "00ff", "{1,NULL,9223372036854775807}", "{t,f}"]
      ])
    #expect(try database.rows("select unnest($1::text[])", [.texts([])]).isEmpty)
  }

  @Test func `A copy stores its rows, and a copy that is given up stores none`() throws {
    struct Row {
      var text: String
      var number: Int64
    }
    let database = try TestDatabase()
    let connection = try database.connection()
    try connection.execute("create table t (name text, n bigint)")
    func copy(_ rows: [Row], failAfter: Int? = nil) throws(PostgresError) {
      try connection.copy(into: "t (name, n)", operation: "test") {
        (send: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
        var binary = BinaryRows()
        binary.header()
        func flush() throws(PostgresError) {
          var failure: PostgresError?
          binary.bytes.withUnsafeBytes {
            do throws(PostgresError) { try send($0) } catch { failure = error }
          }
          binary.removeAll()
          if let failure { throw failure }
        }
        for (i, row) in rows.enumerated() {
          binary.row(fields: 2)
          binary.field(row.text)
          binary.int8(row.number)
          if i % 100 == 0 { try flush() }
          if i == failAfter {
            throw PostgresError(sqlState: "XX999", operation: "test", message: "enough")
          }
        }
        binary.trailer()
        try flush()
      }
    }
    let rows = (0..<10_000).map { Row(text: "row \($0) ü", number: Int64($0)) }
    try copy(rows)
    #expect(try database.integer("select sum(n)::bigint from t") == 49_995_000)
    let error = try #require(throws: PostgresError.self) { try copy(rows, failAfter: 5_000) }
    #expect(error.sqlState == "XX999")
    #expect(connection.isOpen)
    #expect(try database.integer("select count(*) from t") == 10_000)
    // A value that PostgreSQL cannot store is an error from the server, and the connection stays
    // usable.
    let refused = try #require(throws: PostgresError.self) {
      try copy([Row(text: "a\0b", number: 1)])
    }
    #expect(refused.sqlState == "22021")
    #expect(try database.integer("select count(*) from t") == 10_000)
    let missing = try #require(throws: PostgresError.self) {
      try connection.copy(into: "no_such_table", operation: "test") {
        (_: (UnsafeRawBufferPointer) throws(PostgresError) -> Void) throws(PostgresError) in
      }
    }
    #expect(missing.sqlState == "42P01")
    #expect(try database.integer("select 1") == 1)
  }

  @Test func `A connection that the server ends says so`() throws {
    let database = try TestDatabase()
    let connection = try PostgresConnection(url: database.url, application: "victim")
    _ = try database.rows(
      "select pg_terminate_backend($1::int)", [.int(Int(connection.backendPID))])
    let error = try #require(throws: PostgresError.self) {
      // The first statement may still be on its way when the server ends the connection. The second
      // is not.
      try connection.execute("select pg_sleep(5)")
      try connection.execute("select 1")
    }
    #expect(error.isConnectionLost)
    #expect(!connection.isOpen)
  }

  @Test func `A commit with statements runs all or none`() throws {
    let database = try TestDatabase()
    let connection = try database.connection()
    try connection.execute("create table t (n int unique deferrable initially deferred)")
    try connection.execute("begin")
    try connection.commit(
      with: [SQLStatement("insert into t values ($1::int)", [.int(1)])], operation: "test")
    #expect(try TestDatabase(url: database.url).integer("select count(*) from t") == 1)
    // The statement fails.
    try connection.execute("begin; insert into t values (2)")
    let statement = try #require(throws: PostgresError.self) {
      try connection.commit(with: [SQLStatement("select 1/$1::int", [.int(0)])], operation: "test")
    }
    #expect(statement.sqlState == "22012")
    // COMMIT itself fails.
    try connection.execute("begin")
    let commit = try #require(throws: PostgresError.self) {
      try connection.commit(
        with: [SQLStatement("insert into t values ($1::int)", [.int(1)])], operation: "test")
    }
    #expect(commit.sqlState == "23505")
    #expect(try database.rows("select n from t") == [["1"]])
    // The connection is no longer in a transaction.
    try connection.execute("begin; insert into t values (3); commit")
    #expect(try database.integer("select count(*) from t") == 2)
  }

  @Test(arguments: [
    "postgres//localhost/db", "localhost:5432/db", "postgresql://u:p@h:notaport/db",
    "postgresql://h:0/db", "postgresql://h:65536/db", "postgresql://h1:5432,h2:x/db",
    "postgresql://h/db?sslmode=no", "postgresql://h/db?connect_timeout=soon", "port=-1",
    "postgresql://u:a@b@h/db", "postgresql://[::1/db", "host=h nonsense=1", "host='h",
  ])
  func `A URL that can never connect is known without connecting`(_ url: String) {
    #expect(
      DatabaseURL.problem(url)?.hasPrefix("METER_DATABASE_URL is not a valid libpq URI") == true)
  }

  @Test(arguments: [
    "postgresql:///metering", "postgresql://u:p%40ss@h:5433/db?sslmode=verify-full", "",
    "postgres://h1:5432,h2/db?target_session_attrs=read-write", "host=/run/postgresql dbname=m",
    "postgresql://h1,h2:5433/db?connect_timeout=3",
  ])
  func `A URL that may connect is let through`(_ url: String) {
    #expect(DatabaseURL.problem(url) == nil)
  }

  @Test
  func `An unknown database and an unknown user are reported as what they are`() throws {
    let url = try SharedPostgres.makeDatabase()
    let database = try #require(URLComponents(string: url))
    func refusal(_ change: (inout URLComponents) -> Void) throws -> String? {
      var changed = database
      change(&changed)
      let text = try #require(changed.string)
      return try #require(throws: PostgresError.self) {
        try PostgresConnection(url: text, application: "test")
      }.refusal
    }
    #expect(try refusal { $0.path = "/nowhere" }?.contains("no such database") == true)
    #expect(try refusal { $0.user = "nobody" }?.contains("does not let this user in") == true)
    #expect(try refusal { $0.port = 1 } == nil)
  }
}
