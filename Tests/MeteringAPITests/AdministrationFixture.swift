import Foundation
import Licensing
import MeteringTestKit
import Testing

/// Two customers with everything that can be administered, behind the real service.
final class AdministrationFixture {
  let setup: APISetup
  /// The first customer's endpoint.
  let endpoint: String
  let delivery: Int64
  let alert: Int64
  let session: String
  let token: String

  /// One operation on something of the first customer.
  struct Operation: CustomStringConvertible {
    var method: String
    var path: String
    var scope: String
    var body = ""
    /// The status for a caller who is allowed to do it.
    var status = 200
    /// The status for a token of another customer.
    var foreignStatus = 404
    var description: String { "\(method) \(path)" }
  }

  init() throws {
    let keys = try #require(JSONWebKey.generate(.edDSA, for: .license))
    var set = JSONWebKeySet()
    try set.add(keys)
    let setup = try APISetup(environment: [
      "METER_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
      "METER_SIGNING_KEY": String(decoding: set.privateJSON, as: UTF8.self),
      "METER_PUBLIC_URL": "https://meter.example",
    ])
    self.setup = setup
    for customer in ["cus_1", "cus_2"] {
      try setup.addLicense("lic_\(customer)", customer: customer)
    }
    func post(_ path: String, _ body: String = "") throws -> APISetup.Answer {
      let answer = try setup.request("POST", path, body: body)
      #expect(answer.status / 100 == 2, "\(path): \(answer.body)")
      return answer
    }
    let endpoint = try post(
      "/v1/webhook-endpoints", #"{"url":"https://example.com/hook","customer_id":"cus_1"}"#)[
        "endpoint_id"]
    self.endpoint = endpoint
    delivery = Int64(try post("/v1/webhook-endpoints/\(endpoint)/test")["delivery_id"]) ?? 0
    alert = try setup.database.integer("select max(alert_id) from alert") ?? 0
    session = try post("/v1/customers/cus_1/portal-sessions", "{}")["session_id"]
    token = try post(
      "/v1/tokens", #"{"name":"a","scopes":["usage:read"],"customer_id":"cus_1"}"#)["token_id"]
    // Alerts that are raised by judging have such evidence, and a customer's alert has its id.
    try setup.database.execute("update alert set evidence = '[{\"partition\":3}]'")
    try setup.database.execute(
      """
      insert into dead_letter (topic, partition, log_offset, log_epoch, consumer_group, reason, detail, payload, record_key)
      values ('license.usage.v1', 3, 41, 0, 'usage-aggregator', 'not_json', 'no JSON', '{oops', 'lic_cus_1')
      """)
  }

  /// Reads of the first customer's data.
  var reads: [Operation] {
    let customer = "/v1/customers/cus_1"
    return [
      Operation(method: "GET", path: customer, scope: "licenses:read"),
      Operation(method: "GET", path: "/v1/licenses/lic_cus_1", scope: "licenses:read"),
      Operation(method: "GET", path: "/v1/licenses?customer_id=cus_1", scope: "licenses:read"),
      Operation(method: "GET", path: "\(customer)/portal-sessions", scope: "licenses:read"),
      Operation(
        method: "GET", path: "\(customer)/portal-sessions/\(session)", scope: "licenses:read"),
      Operation(method: "GET", path: "/v1/tokens/\(token)", scope: "admin"),
      Operation(method: "GET", path: "/v1/tokens?customer_id=cus_1", scope: "admin"),
      Operation(method: "GET", path: "/v1/audit?customer_id=cus_1", scope: "admin"),
      Operation(method: "GET", path: "/v1/alerts/\(alert)", scope: "webhooks:read"),
      Operation(method: "GET", path: "/v1/alerts?customer_id=cus_1", scope: "webhooks:read"),
      Operation(
        method: "GET", path: "/v1/webhook-endpoints/\(endpoint)", scope: "webhooks:read"),
      Operation(
        method: "GET", path: "/v1/webhook-endpoints?customer_id=cus_1", scope: "webhooks:read"),
      Operation(
        method: "GET", path: "/v1/webhook-deliveries/\(delivery)", scope: "webhooks:read"),
      Operation(
        method: "GET", path: "/v1/webhook-deliveries?customer_id=cus_1", scope: "webhooks:read"),
      Operation(method: "GET", path: "/v1/dead-letters", scope: "usage:read"),
      Operation(
        method: "GET", path: "/v1/dead-letters/0/license.usage.v1/3/41", scope: "usage:read"),
      Operation(method: "GET", path: "/v1/usage/unregistered", scope: "usage:read"),
      Operation(
        method: "GET", path: "/v1/usage/projected-overages?customer_id=cus_1",
        scope: "usage:read"),
    ]
  }

  /// Lists that show each caller only its own entries.
  var lists: [Operation] {
    [
      ("/v1/customers", "licenses:read"), ("/v1/licenses", "licenses:read"),
      ("/v1/tokens", "admin"), ("/v1/audit", "admin"), ("/v1/alerts", "webhooks:read"),
      ("/v1/webhook-endpoints", "webhooks:read"), ("/v1/webhook-deliveries", "webhooks:read"),
    ].map { Operation(method: "GET", path: $0.0, scope: $0.1, foreignStatus: 200) }
  }

  /// Writes, in an order in which all of them work.
  var writes: [Operation] {
    let license = "/v1/licenses/lic_cus_1"
    let hook = "/v1/webhook-endpoints/\(endpoint)"
    func post(
      _ path: String, _ scope: String, _ body: String = "", _ status: Int = 200
    ) -> Operation {
      Operation(method: "POST", path: path, scope: scope, body: body, status: status)
    }
    return [
      post("/v1/customers", "licenses:write", #"{"customer_id":"cus_new"}"#, 201),
      Operation(
        method: "PATCH", path: "/v1/customers/cus_1", scope: "licenses:write",
        body: #"{"name":"One"}"#),
      post(
        "/v1/licenses", "licenses:write",
        #"{"license_id":"lic_new","customer_id":"cus_1","plan":"p","domains":["example.com"],"expires_at":"2040-01-01T00:00:00Z"}"#,
        201),
      Operation(
        method: "PATCH", path: license, scope: "licenses:write",
        body: #"{"plan":"max","limits":{"apiCalls":7}}"#),
      post("\(license)/suspend", "licenses:write"), post("\(license)/resume", "licenses:write"),
      post("\(license)/token", "licenses:write"), post("\(license)/cancel", "licenses:write"),
      post("/v1/tokens", "admin", #"{"name":"b","scopes":["admin"],"customer_id":"cus_1"}"#, 201),
      Operation(
        method: "DELETE", path: "/v1/tokens/\(token)", scope: "admin", status: 204),
      post("/v1/customers/cus_1/portal-sessions", "licenses:write", #"{"expires_in":"1h"}"#, 201),
      Operation(
        method: "DELETE", path: "/v1/customers/cus_1/portal-sessions/\(session)",
        scope: "licenses:write", status: 204),
      post(
        "/v1/webhook-endpoints", "webhooks:write",
        #"{"url":"https://example.com/2","customer_id":"cus_1","events":["license.expired"]}"#, 201),
      Operation(
        method: "PATCH", path: hook, scope: "webhooks:write",
        body: #"{"events":["*"],"url":"https://example.com/3"}"#),
      post("\(hook)/rotate-secret", "webhooks:write"),
      post("\(hook)/test", "webhooks:write", "", 202),
      post("/v1/webhook-deliveries/\(delivery)/redeliver", "webhooks:write", "", 202),
      post(
        "\(hook)/recover", "webhooks:write",
        #"{"since":"2026-01-01T00:00:00Z","until":"2026-02-01T00:00:00Z"}"#),
      post("\(hook)/enable", "webhooks:write"),
      Operation(method: "DELETE", path: hook, scope: "webhooks:write", status: 204),
    ]
  }

  /// Sends an operation.
  func send(
    _ operation: Operation, token: String? = APISetup.adminToken, id: String = "r"
  ) throws -> APISetup.Answer {
    try setup.request(
      operation.method, operation.path, token: token, body: operation.body,
      headers: ["X-Request-Id": id])
  }

  static let scopes = [
    "billing:read", "billing:write", "licenses:read", "licenses:validate", "licenses:write",
    "usage:read", "usage:write", "webhooks:read", "webhooks:write",
  ]

  /// All scopes except those that allow what needs `scope`.
  static func allBut(_ scope: String) -> [String] {
    let wider: [String: [String]] = [
      "licenses:read": ["licenses:write"], "webhooks:read": ["webhooks:write"],
      "usage:read": ["usage:write"],
    ]
    return scopes.filter { $0 != scope && wider[scope]?.contains($0) != true }
  }
}
