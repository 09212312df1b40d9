import MeteringTestKit
import PostgresStore
import Testing

@Suite struct AuditStoreTests {
  private let context = AuditContext(
    actorKind: .token, actorID: "tok_1", requestID: "req-1", address: "203.0.113.9",
    userAgent: "curl/8")

  @Test func `A change keeps only the members that differ`() throws {
    let store = AuditStore(try TestDatabase().connection())
    try store.record(
      AuditedChange(
        "license.update", "license", "lic_1", customerID: "cus_1",
        before: #"{"plan":"basic","seats":null,"domains":["a.example"]}"#,
        after: #"{"plan":"pro","seats":4,"domains":["a.example"]}"#), by: context)
    try store.record(
      AuditedChange("license.create", "license", "lic_2", after: #"{"plan":"pro"}"#),
      by: context, status: 201)
    try store.record(
      AuditedChange("endpoint.delete", "webhook_endpoint", "ep_1", before: #"{"url":"u"}"#),
      by: context)
    try store.record(
      AuditedChange("license.update", "license", "lic_1", before: "{}", after: "{}"), by: context)

    let entries = try store.list(.init(), limit: 10)
    #expect(
      entries.map(\.before) == ["{}", #"{"url": "u"}"#, nil, #"{"plan": "basic", "seats": null}"#])
    #expect(
      entries.map(\.after) == ["{}", nil, #"{"plan": "pro"}"#, #"{"plan": "pro", "seats": 4}"#])
    #expect(entries.map(\.status) == [200, 200, 201, 200])
    #expect(entries.last?.actorID == "tok_1")
    #expect(entries.last?.address == "203.0.113.9")
    #expect(entries.last?.customerID == "cus_1")
  }

  @Test func `A row can neither be changed nor deleted`() throws {
    let database = try TestDatabase()
    try AuditStore(database.connection()).record(
      AuditedChange("token.create", "token", "tok_2"), by: context)
    for sql in [
      "update audit_log set actor_id = 'somebody else'", "delete from audit_log",
      "truncate audit_log",
    ] {
      #expect(throws: PostgresError.self) { try database.execute(sql) }
    }
    #expect(try database.integer("select count(*) from audit_log") == 1)
  }

  @Test func `What an outsider chose is cut to what the table allows`() throws {
    let store = AuditStore(try TestDatabase().connection())
    let long = String(repeating: "é", count: 2_000) + "\0"
    let hostile = AuditContext(
      actorKind: .token, actorID: long, requestID: "\0\0" + long, address: long, userAgent: long)
    let state = #"{"name":""# + String(repeating: "x", count: 70_000) + #""}"#
    try store.record(
      AuditedChange("customer.create", "customer", long, after: state), by: hostile)
    let entry = try #require(try store.list(.init(), limit: 1).first)
    #expect(entry.userAgent?.utf8.count == 512)
    #expect(entry.resourceID.utf8.count == 1_024)
    #expect(entry.requestID?.utf8.count == 128)
    #expect(entry.after == #"{"omitted_bytes": 70012}"#)
  }

  @Test func `A list continues after its cursor and keeps its filter`() throws {
    let database = try TestDatabase()
    let store = AuditStore(try database.connection())
    for i in 1...5 {
      try store.record(
        AuditedChange(
          "license.update", "license", i.isMultiple(of: 2) ? "lic_even" : "lic_odd",
          customerID: "cus_\(i)"), by: context)
    }
    var filter = AuditStore.Filter()
    filter.resourceKind = "license"
    filter.resourceID = "lic_odd"
    let first = try store.list(filter, limit: 2)
    #expect(first.map(\.customerID) == ["cus_5", "cus_3"])
    let rest = try store.list(filter, before: first.last?.id, limit: 2)
    #expect(rest.map(\.customerID) == ["cus_1"])
    filter = AuditStore.Filter()
    filter.customerID = "cus_2"
    #expect(try store.list(filter, limit: 10).map(\.resourceID) == ["lic_even"])
    filter = AuditStore.Filter()
    filter.toMilliseconds = 0
    #expect(try store.list(filter, limit: 10).isEmpty)
  }

  @Test func `A transaction within another is a part of it`() throws {
    let database = try TestDatabase()
    let connection = try database.connection()
    #expect(throws: PostgresError.self) {
      try connection.transaction {
        try connection.transaction {
          try AuditStore(connection).record(
            AuditedChange("token.create", "token", "tok_2"), by: context)
        }
        #expect(connection.isInTransaction)
        try connection.execute("select 1 / 0")
      }
    }
    #expect(!connection.isInTransaction)
    #expect(try database.integer("select count(*) from audit_log") == 0)
  }
}
