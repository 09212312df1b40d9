import Foundation
import MeteringTestKit
import PostgresStore
import Testing

/// Customers and licenses that are created and changed with the pages' forms.
@Suite struct PageFormTests {
  private func audited(_ api: APISetup, _ action: String) throws -> Int64? {
    try api.database.integer("select count(*) from audit_log where action = '\(action)'")
  }

  @Test func `a customer is added, shown, renamed, and given an account of Stripe`() throws {
    let api = try APISetup()
    let reader = try PageReader(api)
    let empty = try reader.get("/customers").body
    #expect(empty.contains("Add a customer") && empty.contains("There are no customers yet"))
    let added = try reader.submit(
      "/customers", from: "/customers", ["customer_id": "cus /é", "name": "<script>x</script>"])
    #expect(added.status == 303, "\(added.body)")
    let page = "/customers/cus%20%2F%C3%A9"
    #expect(added.headers["location"]?.hasPrefix(page) == true, "\(added.headers)")
    #expect(try reader.get(page + "?done=added").body.contains("The customer is added."))
    #expect(!(try reader.get(page).body.contains("<script>x")))
    let changed = try reader.submit(
      page + "/change", from: page,
      [
        "name": "Acme", "was.name": "<script>x</script>", "stripe_customer_id": "cus_S1",
        "was.stripe_customer_id": "",
      ])
    #expect(changed.status == 303, "\(changed.body)")
    let stored = try api.get("/v1" + page)
    #expect(stored["name"] == "Acme" && stored["stripe_customer_id"] == "cus_S1")
    #expect(try audited(api, "customer.create") == 1)
    #expect(try audited(api, "customer.update") == 1)
    let again = try reader.submit("/customers", from: "/customers", ["customer_id": "cus /é"])
    #expect(again.status == 409 && again.body.contains("There is already a customer with this id"))
  }

  @Test func `a license is registered, and a change sends only what somebody changed`() throws {
    let api = try APISetup()
    let reader = try PageReader(api)
    let terms = [
      "license_id": "lic_new", "customer_id": "cus_1", "plan": "basic", "expires_at": "2031-01-31",
      "seats": "", "billing_anchor_day": "31", "trial": "no", "api_calls": "5000",
      "domains": "example.com\r\n*.example.org, example.net", "features": "analytics",
    ]
    let made = try reader.submit("/licenses", from: "/licenses", terms)
    #expect(made.status == 303, "\(made.body)")
    #expect(made.headers["location"] == "/licenses/lic_new?done=registered")
    let stored = try api.get("/v1/licenses/lic_new")
    #expect(stored.json["domains"] as? [String] == ["example.com", "*.example.org", "example.net"])
    #expect(stored["expires_at"] == "2031-01-31T00:00:00Z" && stored["status"] == "active")
    #expect((stored.json["limits"] as? [String: Int]) == ["apiCalls": 5_000], "\(stored.body)")

    // Somebody else changes the plan while the form is open.
    _ = try api.request(
      "PATCH", "/v1/licenses/lic_new", body: #"{"plan":"gold"}"#,
      headers: ["Content-Type": "application/merge-patch+json"])
    let page = "/licenses/lic_new"
    let form = try reader.get(page).body
    #expect(form.contains("example.com\n*.example.org\nexample.net"))
    let changed = try reader.submit(
      page + "/terms", from: page,
      [
        "plan": "basic", "was.plan": "basic", "domains": "example.com\r\nexample.net",
        "was.domains": "example.com\n*.example.org\nexample.net", "seats": "7", "was.seats": "",
        "expires_at": "2031-01-31", "was.expires_at": "2031-01-31",
      ])
    #expect(changed.status == 303, "\(changed.body)")
    let after = try api.get("/v1/licenses/lic_new")
    #expect(after["plan"] == "gold")
    #expect(after.json["domains"] as? [String] == ["example.com", "example.net"])
    #expect((after.json["limits"] as? [String: Int]) == ["apiCalls": 5_000, "seats": 7])
    let wrong = try reader.submit(
      page + "/terms", from: page, ["domains": "co.uk", "was.domains": ""])
    #expect(
      wrong.status == 400 && wrong.body.contains("<strong>domains: </strong>A public suffix"),
      "\(wrong.body)")
  }

  @Test
  func `a caller who may only read gets no forms, and a form that is sent anyway changes nothing`()
    throws
  {
    let api = try APISetup()
    try api.addLicense("lic_1")
    try api.addToken("mtr_read", scopes: "licenses:read,usage:read")
    let reader = try PageReader(api, token: "mtr_read")
    for page in ["/licenses", "/licenses/lic_1", "/customers", "/customers/cus_1"] {
      #expect(!(try reader.get(page).body.contains("<form class=\"stacked\"")), "\(page)")
    }
    for path in ["/licenses", "/licenses/lic_1/terms", "/customers", "/customers/cus_1/change"] {
      #expect(try reader.submit(path, from: "/", ["name": "x", "plan": "x"]).status == 403)
    }
  }

  @Test func `unusual totals are marked on the charts of the overview and of their customer`()
    throws
  {
    let api = try APISetup()
    try api.addLicense("lic_1")
    try api.addLicense("lic_2", customer: "cus_2")
    for license in ["lic_1", "lic_2"] {
      _ = try api.database.rows(
        """
        insert into usage_pending select 1, 0, $1, 'api_calls',
          date_trunc('hour', now() - interval '2 hours'), 0, 0, 5, 5, '[0,5,5]', ''
        """, [.text(license)])
    }
    for customer in ["null", "\"cus_1\""] {
      _ = try api.database.rows(
        """
        select usage_anomaly_raise(jsonb_build_array(jsonb_build_object(
          'occurred_at', (extract(epoch from now()) * 1000)::bigint, 'dedupe_key', $1::text,
          'data', jsonb_build_object('direction', 'high', 'status', 'began', 'meter', 'api_calls',
            'customer_id', $1::text::jsonb, 'observed_per_minute', 90,
            'expected_per_minute', '{"low":1,"high":9}'::jsonb, 'since',
            to_char(now() at time zone 'UTC' - interval '90 minutes',
              'YYYY-MM-DD"T"HH24:MI:SS"Z"')))))
        """, [.text(customer)])
    }
    let reader = try PageReader(api)
    func marks(_ path: String) throws -> Int {
      try reader.get(path).body.components(separatedBy: "class=\"mark ").count - 1
    }
    // Each chart is drawn twice, for wide and for narrow screens.
    #expect(try marks("/") == 4)
    #expect(try marks("/customers/cus_2") == 0)
    let ofMonth = try marks("/customers/cus_1")
    #expect(ofMonth == 2 || Calendar.current.component(.day, from: Date()) == 1)
  }
}
