"""A client that openapi-python-client made of openapi.yaml, let loose on a running service.

    use_client.py FOLDER ADDRESS TOKEN

FOLDER holds the package metering_client. Exits with 1 and a line where something is not as the
description says; the client itself raises where an answer does not fit its models.
"""

import datetime
import sys

FOLDER, ADDRESS, TOKEN = sys.argv[1:]
sys.path.insert(0, FOLDER)

from metering_client import AuthenticatedClient
from metering_client.api.default import (
    close_periods, create_adjustment, create_customer, create_license, create_token,
    create_webhook_endpoint, get_current_usage, get_license, get_statement, get_status, get_usage,
    list_adjustments, list_alerts, list_audit, list_customers, list_dead_letters, list_licenses,
    list_periods, list_statements, list_tokens, list_unregistered_usage, list_webhook_endpoints,
    preview_close, suspend_license, update_customer, update_license,
)  # fmt: skip
from metering_client.models import (
    ClosePeriodsBody, CreateAdjustmentBody, CustomerPatch, GetUsageRange, GetUsageWindow,
    LicensePatch, NewCustomer, NewLicense, NewToken, NewTokenScopesItem, NewWebhookEndpoint, Problem,
)  # fmt: skip

UTC = datetime.timezone.utc


def check(holds, what):
    if not holds:
        print(what)
        sys.exit(1)


def ok(answer, what):
    check(answer is not None and not isinstance(answer, Problem), f"{what}: {answer}")
    return answer


with AuthenticatedClient(base_url=ADDRESS, token=TOKEN, raise_on_unexpected_status=True) as client:
    made = ok(create_customer.sync(client=client, body=NewCustomer(customer_id="cus_gen")), "customer")
    check(made.name == "cus_gen", made)
    renamed = update_customer.sync("cus_gen", client=client, body=CustomerPatch(name="Generated"))
    check(ok(renamed, "rename").name == "Generated", renamed)
    body = NewLicense(
        license_id="lic/gen ü", customer_id="cus_gen", plan="basic", domains=["example.com"],
        expires_at=datetime.datetime(2031, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    license = ok(create_license.sync(client=client, body=body, idempotency_key="k1"), "license")
    again = create_license.sync(client=client, body=body, idempotency_key="k1")
    check(again == license, "the same key answers the same again")
    taken = create_license.sync(client=client, body=body)
    check(isinstance(taken, Problem) and taken.code == "license_exists", taken)
    changed = update_license.sync(license.license_id, client=client, body=LicensePatch(plan="gold"))
    check(ok(changed, "patch").plan == "gold", changed)
    check(ok(suspend_license.sync(license.license_id, client=client), "suspend").status == "suspended", "")
    read = ok(get_license.sync(license.license_id, client=client), "read")
    check(read.plan == "gold" and read.expires_at == body.expires_at, read)

    found, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = ok(list_licenses.sync(client=client, limit=1, **more), "licenses")
        found += [item.license_id for item in page.data]
        cursor = page.next_
        if not cursor:
            break
    check(sorted(found) == ["lic/gen ü", "lic_1"], found)

    usage = ok(
        get_usage.sync(
            client=client, from_=datetime.datetime(2025, 1, 1, tzinfo=UTC),
            to=datetime.datetime(2025, 2, 1, tzinfo=UTC), window=GetUsageWindow.DAY,
        ), "usage",
    )  # fmt: skip
    check([row.quantity for row in usage.data] == [12] and usage.missing == 0, usage)
    ok(get_usage.sync(client=client, range_=GetUsageRange.LAST_7D, group_by="meter", top=3), "top")
    refused = get_usage.sync(client=client, range_=GetUsageRange.LAST_7D, time_zone="Nowhere")
    check(isinstance(refused, Problem) and refused.errors[0].parameter == "time_zone", refused)
    check(ok(get_current_usage.sync("lic_1", client=client), "current").license_id == "lic_1", "")

    check(ok(preview_close.sync(client=client, ending_before="2025-02-01"), "preview").ready, "")
    closed = close_periods.sync(client=client, body=ClosePeriodsBody(ending_before="2025-02-01"))
    check(ok(closed, "close").closed == 1, closed)
    periods = ok(list_periods.sync(client=client, license_id="lic_1"), "periods").data
    check(periods[0].status == "closed" and periods[0].quantity == 12, periods)
    correction = CreateAdjustmentBody(
        license_id="lic_1", meter="api_calls", quantity=-2, reason="two too many",
        applies_to_period_start=datetime.datetime(2025, 1, 1, tzinfo=UTC).isoformat()[:10],
    )  # fmt: skip
    check(ok(create_adjustment.sync(client=client, body=correction), "correction").quantity == -2, "")
    statement = ok(get_statement.sync("cus_1", "2025-01", client=client), "statement")
    check(statement.lines[0].quantity == 12, statement)

    token = NewToken(name="generated", scopes=[NewTokenScopesItem.USAGEREAD])
    check(ok(create_token.sync(client=client, body=token), "token").token.startswith("mtr_"), "")
    endpoint = NewWebhookEndpoint(customer_id="cus_gen", url="https://93.184.216.34/hook")
    ok(create_webhook_endpoint.sync(client=client, body=endpoint), "endpoint")
    ok(get_status.sync(client=client), "status")
    ok(list_statements.sync("cus_1", client=client), "statements")
    for listing in [
        list_adjustments, list_alerts, list_audit, list_customers, list_dead_letters, list_tokens,
        list_unregistered_usage, list_webhook_endpoints,
    ]:  # fmt: skip
        ok(listing.sync(client=client), listing.__name__)

    stranger = AuthenticatedClient(base_url=ADDRESS, token="mtr_wrong")
    unknown = get_license.sync("lic_1", client=stranger)
    check(isinstance(unknown, Problem) and unknown.status == 401, unknown)
