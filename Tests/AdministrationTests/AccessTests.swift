import Administration
import Metering
import MeteringTestKit
import PostgresStore
import SystemRandom
import Testing

@Suite struct AccessAdministrationTests {
  @Test func `A customer is made, renamed, and refused twice`() throws {
    let office = try Office()
    let made = try office.vendor.createCustomer(
      office.json(#"{"customer_id":"cus_1","name":"<script>alert(1)</script>"}"#))
    #expect(made.name == "<script>alert(1)</script>")
    #expect(
      Office.refusal {
        try office.vendor.createCustomer(office.json(#"{"customer_id":"cus_1"}"#))
      } == "customer_exists")
    let patched = try office.vendor.updateCustomer(
      "cus_1", patch: office.json(#"{"name":"One","stripe_customer_id":"cus_Nff"}"#))
    #expect(patched.name == "One" && patched.stripeCustomerID == "cus_Nff")
    let removed = try office.vendor.updateCustomer(
      "cus_1", patch: office.json(#"{"stripe_customer_id":null}"#))
    #expect(removed.stripeCustomerID == nil && removed.name == "One")
    let tenant = try office.tenant("cus_1")
    #expect(
      Office.refusal {
        try tenant.updateCustomer(
          "cus_1", patch: office.json(#"{"stripe_customer_id":"cus_Other"}"#))
      } == "vendor_only")
    for body in [
      "{}", #"{"customer_id":""}"#, #"{"customer_id":"a\u0000"}"#, #"{"customer_id":7}"#,
      #"{"customer_id":"\#(String(repeating: "x", count: 257))"}"#, "[]",
      #"{"customer_id":"a","nam":"b"}"#, #"{"customer_id":"a","stripe_customer_id":"a b"}"#,
    ] {
      #expect(
        Office.refusal { try office.vendor.createCustomer(office.json(body)) }
          == "bad_request", "\(body)")
    }
  }

  @Test func `A token is shown once, and neither it nor its hash is in the audit log`() throws {
    let office = try Office()
    _ = try office.vendor.createCustomer(office.json(#"{"customer_id":"cus_1"}"#))
    let made = try office.vendor.createToken(
      Administrator.NewToken(
        office.json(
          #"{"name":"shop","scopes":["usage:read","billing:write"],"customer_id":"cus_1","expires_in":"90d"}"#
        )))
    let held = try AccessStore(office.database.connection()).tokens(
      hashes: [SecretHash.of(made.secret)])
    #expect(held.map(\.tokenID) == [made.token.id])
    #expect(held.first?.customerID == "cus_1")
    #expect(made.secret.utf8.count > 40)
    try office.vendor.revokeToken(made.token.id)
    #expect(
      try AccessStore(office.database.connection()).tokens(hashes: [SecretHash.of(made.secret)])
        .isEmpty)
    let log = try office.database.rows("select audit_log::text from audit_log")
      .flatMap { $0.compactMap { $0 } }.joined()
    #expect(log.contains("token.create") && log.contains("token.revoke"))
    #expect(!log.contains(made.secret) && !log.contains(SecretHash.of(made.secret)))
    #expect(Office.refusal { try office.vendor.revokeToken("tok_nobody") } == "not_found")
  }

  @Test func `Unknown scopes, customers and lifetimes are refused`() throws {
    let office = try Office()
    for (body, code) in [
      (#"{"name":"a","scopes":["usage:everything"]}"#, "bad_request"),
      (#"{"name":"a","scopes":[]}"#, "bad_request"),
      (#"{"scopes":["admin"]}"#, "bad_request"),
      (#"{"name":"a","scopes":["admin"],"expires_in":"soon"}"#, "bad_request"),
      (#"{"name":"a","scopes":["admin"],"expires_in":"+5d"}"#, "bad_request"),
      (#"{"name":"a","scopes":["admin"],"customer_id":"cus_nobody"}"#, "not_found"),
    ] {
      #expect(
        Office.refusal {
          try office.vendor.createToken(Administrator.NewToken(office.json(body)))
        } == code, "\(body)")
    }
    #expect(try office.audit().isEmpty)
  }

  @Test func `A customer's administrator makes and ends tokens of that customer only`() throws {
    let office = try Office()
    for id in ["cus_1", "cus_2"] {
      _ = try office.vendor.createCustomer(office.json(#"{"customer_id":"\#(id)"}"#))
    }
    let tenant = try office.tenant("cus_1")
    let own = try tenant.createToken(
      Administrator.NewToken(name: "a", scopes: ["admin"], customerID: nil, lifetimeSeconds: nil))
    #expect(own.token.customerID == "cus_1")
    let foreign = try office.vendor.createToken(
      Administrator.NewToken(name: "b", scopes: ["admin"], customerID: nil, lifetimeSeconds: nil))
    #expect(Office.refusal { try tenant.revokeToken(foreign.token.id) } == "not_found")
    #expect(
      Office.refusal {
        try tenant.createToken(
          Administrator.NewToken(
            name: "c", scopes: ["admin"], customerID: "cus_2", lifetimeSeconds: nil))
      } == "not_found")
    try tenant.revokeToken(own.token.id)
  }

  @Test func `A portal link is for one customer's licenses and a bounded time`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    _ = try office.vendor.createLicense(office.license("lic_2", of: "cus_2"))
    let made = try office.vendor.createPortalSession(
      customer: "cus_1",
      office.json(
        #"{"expires_in":"5m","licenses":["lic_1"],"return_url":"https://shop.example/a?b=c"}"#))
    #expect(made.session.isReadOnly && made.session.theme == "auto")
    let store = SessionStore(try office.database.connection())
    let begun = try store.signIn(
      signInHash: SecretHash.of(made.secret), cookieHash: SecretHash.of("cookie"),
      csrfSecret: SystemRandom.bytes(32))
    #expect(begun?.licenseIDs == ["lic_1"])
    try office.vendor.revokePortalSession(made.session.id, customer: "cus_1")
    #expect(try store.portalSession(cookieHash: SecretHash.of("cookie")) == nil)
    #expect(
      Office.refusal { try office.vendor.revokePortalSession(made.session.id, customer: "cus_2") }
        == "not_found")
    for body in [
      #"{"expires_in":"4m"}"#, #"{"expires_in":"8d"}"#, #"{"licenses":[]}"#,
      #"{"licenses":["lic_2"]}"#, #"{"theme":"pink"}"#, #"{"read_only":"yes"}"#,
      #"{"return_url":"javascript:alert(1)"}"#, #"{"return_url":"https://a.example\\@b"}"#,
      #"{"return_url":"https://user@a.example/"}"#, #"{"return_url":"//a.example"}"#,
    ] {
      #expect(
        Office.refusal {
          try office.vendor.createPortalSession(customer: "cus_1", office.json(body))
        } == "bad_request", "\(body)")
    }
  }
}
