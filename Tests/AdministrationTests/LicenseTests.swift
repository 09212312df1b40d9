import Administration
import Metering
import MeteringTestKit
import PostgresStore
import Testing

@Suite struct LicenseAdministrationTests {
  @Test func `A license is registered once, and its customer with it`() throws {
    let office = try Office()
    let made = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    #expect(made.status == "active" && made.billingAnchorDay == 1 && made.features == "[]")
    #expect(made.limits == #"{"seats": 10, "apiCalls": 50000}"#)
    #expect(try CustomerStore(office.database.connection()).customer("cus_1")?.licenses == 1)
    #expect(
      Office.refusal { try office.vendor.createLicense(office.license("lic_1", of: "cus_1")) }
        == "license_exists")
    let entry = try #require(try office.audit().first)
    #expect(entry.action == "license.create" && entry.status == 201 && entry.before == nil)
    #expect(entry.customerID == "cus_1" && entry.resourceID == "lic_1")
    #expect(try office.audit().count == 1)
  }

  @Test func `A patch changes what it names, and the audit log keeps both sides of that`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(
      office.license("lic_1", of: "cus_1", #","alert_thresholds":[50]"#))
    let patched = try office.vendor.updateLicense(
      "lic_1",
      patch: office.json(#"{"plan":"max","limits":{"api_calls":7,"seats":null,"exports":1}}"#))
    #expect(patched.isChanged && patched.license.plan == "max")
    #expect(patched.license.limits == #"{"exports": 1, "apiCalls": 7}"#)
    #expect(patched.license.alertThresholds == "[50]")
    // The time is kept to the microsecond, which no answer shows.
    #expect(
      try office.database.rows("select extract(microseconds from issued_at)::int from license")
        == [["123456"]])
    let entry = try #require(try office.audit().first)
    #expect(
      entry.before == #"{"plan": "pro", "limits": {"seats": 10, "apiCalls": 50000}}"#)
    #expect(entry.after == #"{"plan": "max", "limits": {"exports": 1, "apiCalls": 7}}"#)
    let again = try office.vendor.updateLicense("lic_1", patch: office.json(#"{"plan":"max"}"#))
    #expect(!again.isChanged)
  }

  @Test func `A patch may contain a member that cannot be changed, if it is as it was`() throws {
    let office = try Office()
    let made = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    let same = #"{"license_id":"lic_1","created_at":"\#(UTCTime.text(made.createdAt))"}"#
    _ = try office.vendor.updateLicense("lic_1", patch: office.json(same))
    for patch in [
      #"{"license_id":"lic_2"}"#, #"{"created_at":"2020-01-01T00:00:00Z"}"#,
      #"{"plam":"max"}"#, #"{"plan":null}"#, #"{"plan":"a","plan":"b"}"#,
      #"{"limits":{"apiCalls":1,"api_calls":2}}"#, "[]", #"{"domains":["co.uk"]}"#,
      #"{"expires_at":"2001-01-01T00:00:00Z"}"#, #"{"plan":"a\u0000b"}"#,
      #"{"plan":"\#(String(repeating: "x", count: 257))"}"#,
    ] {
      #expect(
        Office.refusal { try office.vendor.updateLicense("lic_1", patch: office.json(patch)) }
          == "bad_request", "\(patch)")
    }
  }

  @Test func `A patch removes all limits with null`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    let patched = try office.vendor.updateLicense(
      "lic_1", patch: office.json(#"{"limits":null}"#))
    #expect(patched.license.limits == "{}")
  }

  @Test func `An identifier may hold any text but NUL`() throws {
    let office = try Office()
    for (written, id) in [
      (#"tab\tid"#, "tab\tid"), (#"line\nid"#, "line\nid"), (#"\u007f"#, "\u{7F}"),
    ] {
      let made = try office.vendor.createLicense(office.license(written, of: #"cus\t1"#))
      #expect(made.licenseID.string == id && made.customerID.string == "cus\t1")
    }
    #expect(
      Office.refusal {
        try office.vendor.createLicense(office.license(#"nul\u0000"#, of: "cus_1"))
      } != nil)
  }

  @Test func `A member that is given twice is refused`() throws {
    let office = try Office()
    #expect(
      Office.refusal {
        try office.vendor.createLicense(office.license("lic_1", of: "cus_1", #","plan":"max""#))
      } != nil)
    #expect(try LicenseReads(office.database.connection()).license("lic_1") == nil)
  }

  @Test func `A client that saw an older state is refused, and nothing changes`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    let code = Office.refusal {
      try office.vendor.updateLicense("lic_1", patch: office.json(#"{"plan":"max"}"#)) { _ in false
      }
    }
    #expect(code == "changed_meanwhile")
    #expect(try LicenseReads(office.database.connection()).license("lic_1")?.plan == "pro")
    #expect(try office.audit().count == 1)
  }

  @Test func `A canceled license stays canceled`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    #expect(try office.vendor.setLicense("lic_1", .suspend).status == "suspended")
    #expect(try office.vendor.setLicense("lic_1", .resume).status == "active")
    #expect(try office.vendor.setLicense("lic_1", .cancel).status == "canceled")
    #expect(try office.vendor.setLicense("lic_1", .cancel).status == "canceled")
    #expect(Office.refusal { try office.vendor.setLicense("lic_1", .resume) } == "license_canceled")
    let code = Office.refusal {
      try office.vendor.updateLicense("lic_1", patch: office.json(#"{"status":"active"}"#))
    }
    #expect(code == "license_canceled")
    #expect(Office.refusal { try office.vendor.setLicense("lic_2", .suspend) } == "not_found")
    #expect(
      try office.audit().map(\.action) == [
        "license.cancel", "license.cancel", "license.resume", "license.suspend", "license.create",
      ])
  }

  @Test func `Another customer's data is as if it were not there`() throws {
    let office = try Office()
    _ = try office.vendor.createLicense(office.license("lic_1", of: "cus_1"))
    _ = try office.vendor.createLicense(office.license("lic_2", of: "cus_2"))
    let tenant = try office.tenant("cus_2")
    let count = try office.audit().count
    let codes = [
      Office.refusal { try tenant.createLicense(office.license("lic_1", of: "cus_2")) },
      Office.refusal { try tenant.createLicense(office.license("lic_3", of: "cus_1")) },
      Office.refusal { try tenant.updateLicense("lic_1", patch: office.json("{}")) },
      Office.refusal {
        try tenant.updateLicense("lic_2", patch: office.json(#"{"customer_id":"cus_1"}"#))
      },
      Office.refusal { try tenant.setLicense("lic_1", .cancel) },
      Office.refusal { try tenant.updateCustomer("cus_1", patch: office.json("{}")) },
      Office.refusal { try tenant.createCustomer(office.json(#"{"customer_id":"cus_9"}"#)) },
      Office.refusal { try tenant.createPortalSession(customer: "cus_1", office.json("{}")) },
    ]
    #expect(codes == Array(repeating: "not_found", count: codes.count))
    #expect(try office.audit().count == count)
    #expect(try tenant.setLicense("lic_2", .suspend).status == "suspended")
  }
}
