"""Checks fake_stripe.py by Stripe's own client: what the client understands, the server says as Stripe does.

Usage: check_fake_stripe.py PORT
"""

import json
import sys
import time
import urllib.request

import stripe

PORT = int(sys.argv[1])
BASE = f"http://127.0.0.1:{PORT}"


def control(name, body):
    request = urllib.request.Request(f"{BASE}/_test/{name}", json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def client(key="sk_test_fake", retries=0):
    return stripe.StripeClient(key, base_addresses={"api": BASE}, max_network_retries=retries)


def refused(kind, code, body):
    try:
        body()
    except kind as error:
        assert error.code == code, (error.code, code, error)
        return error
    raise AssertionError(f"{kind.__name__} {code} was expected")


def send(event_name, customer, value, identifier, timestamp, retries=0):
    return client(retries=retries).v1.billing.meter_events.create(
        {"event_name": event_name, "identifier": identifier, "timestamp": timestamp,
         "payload": {"stripe_customer_id": customer, "value": str(value)}})


def sums(meter, customer, first, end):
    pages = client().v1.billing.meters.event_summaries.list(
        meter, {"customer": customer, "start_time": first, "end_time": end, "value_grouping_window": "hour", "limit": 10})
    return {s.start_time: s.aggregated_value for s in pages.auto_paging_iter()}


def main():
    now = int(time.time()) // 3_600 * 3_600 + 1_800
    control("clock", {"now": now})
    hour = now // 3_600 * 3_600
    c = client()
    customer = c.v1.customers.create({"name": "A"})
    meter = c.v1.billing.meters.create(
        {"display_name": "Calls", "event_name": "calls", "default_aggregation": {"formula": "sum"}})
    assert meter.status == "active" and meter.event_time_window is None
    hourly = c.v1.billing.meters.create(
        {"display_name": "Hourly", "event_name": "hourly", "default_aggregation": {"formula": "sum"},
         "event_time_window": "hour"})
    assert [m.event_name for m in c.v1.billing.meters.list().auto_paging_iter()] == ["hourly", "calls"]

    # Sums by hour, over more than one page.
    for back in range(25):
        made = send("calls", customer.id, back + 1, f"e{back}", hour - back * 3_600)
        assert made.payload["value"] == str(back + 1) and made.identifier == f"e{back}"
    found = sums(meter.id, customer.id, hour - 30 * 3_600, hour + 3_600)
    assert found == {hour - back * 3_600: float(back + 1) for back in range(25)}, found

    # The last event of an hour counts where the meter has an event time window.
    for number, value in enumerate([5, 9, 7]):
        send("hourly", customer.id, value, f"h{number}", hour + number)
    assert sums(hourly.id, customer.id, hour, hour + 3_600) == {hour: 7.0}

    # Identifiers are known for a day.
    refused(stripe.InvalidRequestError, "duplicate_meter_event", lambda: send("calls", customer.id, 1, "e0", hour))
    control("clock", {"advance": 86_400 + 1})
    send("calls", customer.id, 1, "e0", hour)
    assert sums(meter.id, customer.id, hour, hour + 3_600) == {hour: 2.0}
    control("clock", {"now": now})

    # Bounds of time and value.
    for offset, code in [(-35 * 86_400 - 60, "timestamp_too_far_in_past"), (360, "timestamp_in_future")]:
        refused(stripe.InvalidRequestError, code, lambda: send("calls", customer.id, 1, f"t{offset}", now + offset))
    send("calls", customer.id, 1, "t-ok", now - 35 * 86_400 + 60)
    send("calls", customer.id, 1, "t-ahead", now + 240)
    refused(stripe.InvalidRequestError, "meter_event_value_too_many_digits",
            lambda: send("calls", customer.id, 10**15, "v16", now))
    send("calls", customer.id, 10**15 - 1, "v15", now - 7_200)
    refused(stripe.InvalidRequestError, "meter_event_invalid_value", lambda: send("calls", customer.id, "1.5", "v", now))

    # What is wrong with a customer or a meter is told later, and counts nowhere.
    send("calls", "cus_nobody", 1, "late1", now)
    send("nothing", customer.id, 1, "late2", now)
    errors = control("state", {})["errors"]
    assert [e["code"] for e in errors] == ["meter_event_customer_not_found", "no_meter"], errors

    # The client retries what it is told to, and a lost answer is asked for again under its identifier.
    control("faults", [{"fault": "status", "status": 409, "count": 1}])
    send("calls", customer.id, 1, "r409", now - 10_800, retries=2)
    control("faults", [{"fault": "status", "status": 429, "code": "rate_limit", "type": "rate_limit_error"}])
    refused(stripe.RateLimitError, None, lambda: send("calls", customer.id, 1, "r429", now))
    control("faults", [{"fault": "status", "status": 400, "headers": {"stripe-should-retry": "true"}}])
    send("calls", customer.id, 1, "told", now - 10_800, retries=2)
    control("faults", [{"fault": "after"}])
    refused(stripe.APIConnectionError, None, lambda: send("calls", customer.id, 1, "lost", now - 14_400))
    refused(stripe.InvalidRequestError, "duplicate_meter_event", lambda: send("calls", customer.id, 1, "lost", now - 14_400))
    control("faults", [{"fault": "before"}])
    refused(stripe.APIConnectionError, None, lambda: send("calls", customer.id, 1, "never", now - 14_400))
    send("calls", customer.id, 1, "never", now - 14_400)

    # Sums come later than answers.
    control("set", {"delay": 60})
    send("calls", customer.id, 1, "slow", now - 18_000 - 3_600 * 30)
    place = (now - 18_000 - 3_600 * 30) // 3_600 * 3_600
    assert sums(meter.id, customer.id, place, place + 3_600) == {}
    control("clock", {"advance": 61})
    assert sums(meter.id, customer.id, place, place + 3_600) == {place: 1.0}

    refused(stripe.AuthenticationError, None, lambda: client("sk_test_wrong").v1.billing.meters.list())
    refused(stripe.InvalidRequestError, "parameter_invalid", lambda: sums(meter.id, customer.id, hour + 60, hour + 3_600))
    print("ok")


main()
