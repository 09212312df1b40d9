import Foundation
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct SchemaTests {
  private func emptyDatabase() throws -> TestDatabase {
    TestDatabase(url: try SharedPostgres.makeDatabase(migrated: false))
  }

  @Test func `Migrating twice applies once`() throws {
    let database = try emptyDatabase()
    #expect(try Schema.state(database.connection()) == .empty)
    #expect(try Schema.migrate(database.connection()) == Schema.migrations.map(\.name))
    #expect(try Schema.migrate(database.connection()) == [])
    #expect(try Schema.state(database.connection()) == .current)
  }

  @Test func `Two migrations at the same time apply once`() throws {
    let database = try emptyDatabase()
    let lock = NSLock()
    nonisolated(unsafe) var results: [Result<[String], any Error>] = []  // Guarded by `lock`.
    let url = database.url
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      let result = Result { try Schema.migrate(PostgresConnection(url: url, application: "test")) }
      lock.lock()
      results.append(result)
      lock.unlock()
    }
    let applied = try results.flatMap { try $0.get() }
    #expect(applied == Schema.migrations.map(\.name))
    #expect(try Schema.state(database.connection()) == .current)
  }

  @Test func `A schema outside of the range is named`() throws {
    let database = try TestDatabase()
    try database.execute("update schema_version set version = 99, min_compatible = 98")
    #expect(try Schema.state(database.connection()) == .tooNew(99, minCompatible: 98))
    #expect(throws: PostgresError.self) { try Schema.migrate(database.connection()) }
    try database.execute("update schema_version set version = 99, min_compatible = 1")
    #expect(try Schema.state(database.connection()) == .current)
    try database.execute("update schema_version set version = 0, min_compatible = 0")
    #expect(try Schema.state(database.connection()) == .tooOld(0))
  }
}
