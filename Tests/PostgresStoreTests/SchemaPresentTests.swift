import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Holds `Schema/`, the schema as it is today, equal to what the migrations make.
@Suite struct SchemaPresentTests {
  private static let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Sources/IO/PostgresStore/Schema")

  @Test func `The schema's files and the migrations make the same database`() throws {
    let migrated = try TestDatabase()
    let present = TestDatabase(url: try SharedPostgres.makeDatabase(migrated: false))
    try Self.apply(try Self.files(), to: present)
    let expected = try Self.catalog(migrated)
    let found = try Self.catalog(present)
    for line in expected.subtracting(found).sorted() {
      Issue.record("Only the migrations make this: \(line)")
    }
    for line in found.subtracting(expected).sorted() {
      Issue.record("Only the files in Schema/ make this: \(line)")
    }
    #expect(expected.count > 200)
  }

  @Test func `Each file is named after the one thing that it makes`() throws {
    for (name, sql) in try Self.files() {
      let thing = String(name.split(separator: "/").last!.dropLast(".sql".count))
      let kind = String(name.split(separator: "/").first!.dropLast())
      let pattern = "create (or replace )?(\(kind)|sequence) \(thing)\\b"
      #expect(
        sql.range(of: pattern, options: .regularExpression) != nil,
        "Schema/\(name) does not create \(thing)")
    }
  }

  /// An error names the constraint that was broken, so its name has to say what must hold.
  @Test func `No CHECK has a name that PostgreSQL made up for several columns`() throws {
    let rows = try TestDatabase().rows(
      """
      select conrelid::regclass::text || '.' || conname from pg_constraint
      where contype = 'c' and connamespace = 'public'::regnamespace
        and conname ~ ('^' || conrelid::regclass::text || '_check[0-9]*$')
      """)
    #expect(rows.flatMap { $0.compactMap { $0 } }.sorted() == [])
  }

  /// The files by relative name, with their SQL.
  private static func files() throws -> [(name: String, sql: String)] {
    try ["tables", "views", "functions"].flatMap { kind in
      try FileManager.default
        .contentsOfDirectory(atPath: folder.appendingPathComponent(kind).path)
        .filter { $0.hasSuffix(".sql") }.sorted()
        .map { name in
          let file = folder.appendingPathComponent(kind).appendingPathComponent(name)
          return ("\(kind)/\(name)", try String(contentsOf: file, encoding: .utf8))
        }
    }
  }

  /// Files refer to each other, so those that fail are tried again once others exist.
  private static func apply(
    _ files: [(name: String, sql: String)], to database: TestDatabase
  ) throws {
    var waiting = files
    while !waiting.isEmpty {
      var failed: [(name: String, sql: String)] = []
      var reasons: [String] = []
      for file in waiting {
        do {
          let connection = try database.connection()
          try connection.transaction {
            try connection.execute("set local check_function_bodies = off")
            try connection.execute(file.sql)
          }
        } catch let error as PostgresError {
          failed.append(file)
          reasons.append("\(file.name): \(error)")
        }
      }
      try #require(failed.count < waiting.count, "\(reasons.joined(separator: "\n"))")
      waiting = failed
    }
  }

  /// One line for everything that the catalogs know. Partitions of single months are left out,
  /// because they are made by the calendar. Comments within functions are left out too, so that
  /// they can be improved: a migration that was released never changes.
  private static func catalog(_ database: TestDatabase) throws -> Set<String> {
    let rows = try database.rows(
      """
      with relation as (
        select c.oid, c.relname, c.relkind, c.reloptions, c.relpersistence from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'S', 'm')
          and not (c.relispartition and c.relname ~ '_[0-9]{4,}$'))
      select 'relation ' || relname || ' ' || relkind::text || ' ' || relpersistence::text || ' '
          || coalesce(array_to_string(reloptions, ','), '')
        from relation
      union all
      select concat_ws(' ', 'column', r.relname, a.attname, format_type(a.atttypid, a.atttypmod),
          case when a.attnotnull then 'not null' end,
          'default ' || pg_get_expr(d.adbin, d.adrelid), 'storage ' || a.attstorage::text,
          'collation ' || l.collname, nullif(a.attidentity::text, ''), nullif(a.attgenerated::text, ''))
        from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0
          and not a.attisdropped and r.relkind <> 'S'
        left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
        left join pg_collation l on l.oid = a.attcollation
      union all
      select concat_ws(' ', 'constraint', r.relname, c.conname, pg_get_constraintdef(c.oid))
        from relation r join pg_constraint c on c.conrelid = r.oid
      union all
      select 'index ' || pg_get_indexdef(i.indexrelid)
        from relation r join pg_index i on i.indrelid = r.oid
      union all
      select 'trigger ' || pg_get_triggerdef(t.oid)
        from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
      union all
      select 'view ' || relname || ' ' || pg_get_viewdef(oid) from relation where relkind in ('v', 'm')
      union all
      select 'sequence ' || s.sequencename || ' ' || s.data_type || ' ' || s.cycle || ' '
          || s.increment_by
        from pg_sequences s where s.schemaname = 'public'
      union all
      select 'function ' || pg_get_functiondef(p.oid)
        from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind in ('f', 'p')
      """)
    return Set(
      rows.compactMap { $0[0] }.map {
        $0.hasPrefix("function ") ? SQLComments.removed(from: $0) : $0
      })
  }
}
