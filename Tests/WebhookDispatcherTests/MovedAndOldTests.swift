import MeteringTestKit
import PostgresStore
import Testing

/// Endpoints that move to another address, and deliveries that are sent again when they are old.
@Suite(.serialized) struct MovedAndOldTests {
  private typealias Setup = DispatcherTests.Setup

  @Test func `A 410 of an endpoint's old address does not disable the endpoint at its new one`()
    throws
  {
    let setup = try Setup()
    try setup.endpoint("ep_moves", "/leaving")
    try setup.raise(1)
    try setup.start(["METER_WEBHOOK_TIMEOUT": "20s", "METER_WEBHOOK_LEASE": "60s"])
    try eventually("the old address is being called") { setup.server.received.count == 1 }
    let store = EndpointStore(try setup.database.connection())
    #expect(try store.update("ep_moves", url: setup.server.url("/new"), events: nil))
    setup.server.heal()
    try eventually("delivered at the new address", within: 20) {
      try setup.count("delivered", "ep_moves") == 1
    }
    #expect(setup.server.received.map(\.path) == ["/leaving", "/new"])
    let endpoint = try #require(try store.list(id: "ep_moves", limit: 1).first)
    #expect(endpoint.status == "active" && endpoint.consecutiveFailures == 0)
  }

  @Test func `Old deliveries that are sent again do not keep the ones behind them for ever`() throws
  {
    let setup = try Setup()
    try setup.endpoint("ep_again", "/again")
    try setup.endpoint("ep_a", "/a", customer: "cus_other")
    // One pass looks at 5,000 deliveries.
    try setup.database.execute(
      """
      update webhook_endpoint set consecutive_failures = 9, failing_since = now(),
        open_until = now() + interval '1 day' where endpoint_id = 'ep_again';
      insert into alert (type, customer_id, occurred_at, data, dedupe_key)
      select 'webhook.test', 'cus_test', now() - interval '120 days', '{}', 'k' || n
      from generate_series(1, 5100) n;
      insert into webhook_delivery (alert_id, endpoint_id, webhook_id, created_at)
      select alert_id, 'ep_again', 'a' || alert_id, now() - interval '120 days' from alert order by 1;
      insert into webhook_delivery (alert_id, endpoint_id, webhook_id, status, created_at,
        next_attempt_at, finished_at)
      select alert_id, 'ep_a', 'b' || alert_id, 'delivered', now() - interval '120 days', null,
        now() - interval '100 days'
      from alert order by 1 limit 10;
      """)
    try setup.start()
    try eventually("the old ones of another customer are gone", within: 20) {
      try setup.count("delivered", "ep_a") == 0
    }
    #expect(try setup.count("pending", "ep_again") == 5_100)
  }
}
