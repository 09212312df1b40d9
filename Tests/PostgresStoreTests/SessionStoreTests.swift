import Metering
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct SessionStoreTests {
  private let database: TestDatabase
  private let store: SessionStore

  init() throws {
    database = try TestDatabase()
    store = SessionStore(try database.connection())
    try database.execute(
      """
      insert into customer (customer_id, name) values ('cus_1', 'One'), ('cus_2', 'Two');
      insert into api_token (token_id, name, token_hash, scopes, customer_id) values
        ('tok_1', 'pages', decode(repeat('aa', 32), 'hex'), '{usage:read,billing:read}', 'cus_1')
      """)
  }

  private func hash(_ digits: String) -> String { String(repeating: digits, count: 32) }
  private let csrf = [UInt8](repeating: 7, count: 32)

  private func link(
    _ id: String, _ hash: String, licenses: [String]? = nil
  ) throws -> SessionStore.PortalSession {
    try store.create(
      SessionStore.NewPortalSession(
        id: id, customerID: "cus_1", licenseIDs: licenses, isReadOnly: true, theme: "auto",
        returnURL: nil, lifetimeSeconds: 3_600, createdBy: "tok_1", signInHash: hash))
  }

  @Test func `A link signs in once, and its session holds until it is revoked`() throws {
    _ = try link("ps_1", hash("01"), licenses: ["lic,1", "lic\"2"])
    #expect(try store.portalSession(cookieHash: hash("02")) == nil)
    let begun = try store.signIn(signInHash: hash("01"), cookieHash: hash("02"), csrfSecret: csrf)
    #expect(begun?.licenseIDs == ["lic,1", "lic\"2"])
    #expect(begun?.csrfSecret == csrf)
    #expect(try store.portalSession(cookieHash: hash("02"))?.id == "ps_1")
    let again = try store.signIn(signInHash: hash("01"), cookieHash: hash("03"), csrfSecret: csrf)
    #expect(again == nil)
    #expect(try !store.revokePortalSession("ps_1", customer: "cus_2"))
    #expect(try store.revokePortalSession("ps_1", customer: "cus_1"))
    #expect(try store.portalSession(cookieHash: hash("02")) == nil)
  }

  @Test func `A revoked or late link signs no one in`() throws {
    _ = try link("ps_1", hash("01"))
    _ = try link("ps_2", hash("02"))
    #expect(try store.revokePortalSession("ps_1", customer: "cus_1"))
    try database.execute(
      """
      update portal_session set created_at = now() - interval '2 days', expires_at = now() - interval '1 second'
      where session_id = 'ps_2'
      """)
    for digits in ["01", "02", "03"] {
      let session = try store.signIn(
        signInHash: hash(digits), cookieHash: hash("09"), csrfSecret: csrf)
      #expect(session == nil)
    }
  }

  @Test func `A customer's sessions are listed in pages, the newest first`() throws {
    for i in 1...3 { _ = try link("ps_\(i)", hash("0\(i)")) }
    let first = try store.portalSessions(customer: "cus_1", limit: 2)
    #expect(first.map(\.id) == ["ps_3", "ps_2"])
    #expect(first.first?.licenseIDs == nil)
    let rest = try store.portalSessions(customer: "cus_1", before: "ps_2", limit: 2)
    #expect(rest.map(\.id) == ["ps_1"])
    #expect(try store.portalSessions(customer: "cus_2", limit: 2).isEmpty)
  }

  @Test func `A page session ends with its token`() throws {
    let session = try #require(
      try store.signIn(
        id: "s_1", tokenHash: hash("aa"), cookieHash: hash("01"), csrfSecret: csrf,
        lifetimeSeconds: 60))
    #expect(session.token.customerID == "cus_1")
    #expect(session.token.scopes == ["usage:read", "billing:read"])
    #expect(session.tokenName == "pages")
    #expect(try AccessStore(database.connection()).revokeToken(id: "tok_1"))
    #expect(try store.pageSession(cookieHash: hash("01")) == nil)
    let other = try store.signIn(
      id: "s_2", tokenHash: hash("aa"), cookieHash: hash("02"), csrfSecret: csrf,
      lifetimeSeconds: 60)
    #expect(other == nil)
  }

  @Test func `Signing out ends the session of that browser alone`() throws {
    for i in 1...2 {
      _ = try store.signIn(
        id: "s_\(i)", tokenHash: hash("aa"), cookieHash: hash("0\(i)"), csrfSecret: csrf,
        lifetimeSeconds: 60)
    }
    try store.endPageSession(cookieHash: hash("01"))
    #expect(try store.pageSession(cookieHash: hash("01")) == nil)
    #expect(try store.pageSession(cookieHash: hash("02"))?.id == "s_2")
  }

  @Test func `Sessions that ended long ago are deleted`() throws {
    _ = try link("ps_1", hash("01"))
    _ = try link("ps_2", hash("02"))
    try database.execute(
      """
      update portal_session set created_at = now() - interval '40 days', expires_at = now() - interval '31 days'
      where session_id = 'ps_1'
      """)
    try store.retain()
    #expect(try store.portalSessions(customer: "cus_1", limit: 9).map(\.id) == ["ps_2"])
  }
}
