"""What must hold after the faults. Each check returns sentences, and none if it holds."""

import json
import subprocess

from .pipeline import LICENSES, LOAD_LICENSES

OURS = "license_id like 'lic_chaos_%'"

CLOSED = """
    select period_id, quantity, event_count, included, overage, closed_at
    from usage_by_period where closed_at is not null order by 1"""

# A period's days add up to its quantity and its late adjustments, whether it is closed or open.
DAYS = """
    select count(*) from (
      select p.license_id, p.meter, p.period_start, sum(p.quantity + coalesce(a.quantity, 0)) as quantity,
        sum(p.event_count + coalesce(a.events, 0)) as events
      from usage_by_period p left join (
        select license_id, meter, applies_to_period_start as period_start, sum(quantity) as quantity,
          sum(event_count) as events
        from usage_adjustment where kind = 'late' group by 1, 2, 3) a using (license_id, meter, period_start)
      group by 1, 2, 3
    ) v full join (
      select d.license_id, d.meter, p.first_day::timestamp at time zone 'UTC' as period_start,
        sum(d.quantity) as quantity, sum(d.event_count) as events
      from usage_by_day d, period_of(d.license_id, (d.bucket_start at time zone 'UTC')::date) p group by 1, 2, 3
    ) d using (license_id, meter, period_start)
    where coalesce(v.quantity, 0) <> coalesce(d.quantity, 0) or coalesce(v.events, 0) <> coalesce(d.events, 0)"""

# The thresholds that open periods have reached, and those that raised an alert.
REACHED = """
    select l.license_id, l.meter, p.period_start, t.percent
    from usage_by_period p join license_limit l using (license_id, meter), (values (80), (100)) t(percent)
    where p.closed_at is null and p.period_end > now() and p.quantity * 100 >= l.quantity * t.percent and p.quantity > 0"""
TOLD = """
    select license_id, data->>'meter', (data->>'period_start')::timestamptz, (data->>'threshold_percent')::int
    from alert where type like 'license.limit%' and (data->>'threshold_percent')::int <= 100
      and (data->>'period_end')::timestamptz > now()"""

LEDGER = """
    select consumer_group, topic, producer, accepted, dropped, counted, duplicates, dead_lettered, in_flight, missing
    from producer_ledger order by 1, 2, 3"""


def counts(pipeline, load_accepted):
    """Every event that was answered for is in the counts, once."""
    truth, wrong = pipeline.clients.truth, []
    found = {}
    for license_id, meter, events, quantity in pipeline.postgres.rows(
            f"select license_id, meter, sum(event_count), sum(quantity) from usage_by_day where {OURS} group by 1, 2"):
        found[(license_id, meter)] = (int(events), int(quantity))
    for key in set(truth.events) | {key for key in found if key[1] != "api_calls"}:
        expected = (truth.events[key], truth.quantity[key])
        if found.get(key, (0, 0)) != expected:
            wrong.append(f"{key}: {found.get(key)} counted, {expected} answered for")
    # A validation is sent again if no answer came, so attempts may count too. One that was dropped was reported.
    dropped = sum(int(row[4] or 0) for row in pipeline.postgres.rows(LEDGER) if row[0] == "usage-aggregator")
    for license_id in LICENSES:
        calls = found.get((license_id, "api_calls"), (0, 0))[0]
        least = truth.valid[license_id] - dropped
        most = truth.valid[license_id] + truth.unanswered[license_id]
        if not least <= calls <= most:
            wrong.append(f"{license_id}: {calls} calls counted, {least} to {most} were validated")
    loaded = int(pipeline.postgres.query(
        f"select coalesce(sum(event_count), 0) from usage_by_day where license_id < 'lic_{LOAD_LICENSES:08}'"))
    if loaded != load_accepted:
        wrong.append(f"meterctl load: {loaded} counted, {load_accepted} accepted")
    return wrong


def ledger(pipeline):
    # A producer whose report has not been read has nothing in the columns of the report, and is wrong here.
    rows = pipeline.postgres.rows(LEDGER)
    return [f"ledger: {row}" for row in rows if [row[8], row[9]] != ["0", "0"]]


def reconcile(pipeline, seconds=300, is_whole=True):
    """What reconcile says. `is_whole`: the broker still holds every record, so that everything can be proved."""
    try:
        done = pipeline.run_meterctl("reconcile", "--json", timeout=seconds)
    except subprocess.TimeoutExpired:
        return [f"reconcile: no answer within {seconds} s"]
    try:
        state = json.loads(done.stdout)["status"]
    except (ValueError, KeyError):
        state = done.stdout[-2000:] + done.stderr[-2000:]
    good = {"equal": 0} if is_whole else {"equal": 0, "not_provable": 0, "nothing_proved": 4}
    return [] if good.get(state) == done.returncode else [f"reconcile: exit {done.returncode}: {state}"]


def periods(pipeline, before):
    wrong = []
    after = {row[0]: row for row in pipeline.postgres.rows(CLOSED)}
    for row in before:
        if after.get(row[0]) != row:
            wrong.append(f"a closed period has changed: {row} is now {after.get(row[0])}")
    broken = pipeline.postgres.query(DAYS)
    if broken != "0":
        wrong.append(f"{broken} periods differ from their days and late adjustments")
    return wrong


def limits(pipeline):
    wrong = []
    for what, sql in (("reached and not told", f"{REACHED} except {TOLD}"), ("told and not reached", f"{TOLD} except {REACHED}")):
        rows = pipeline.postgres.rows(sql)
        wrong += [f"a threshold was {what}: {row}" for row in rows[:5]]
    twice = pipeline.postgres.rows(f"select * from ({TOLD}) t(l, m, s, p) group by l, m, s, p having count(*) > 1")
    return wrong + [f"a threshold was told twice: {row}" for row in twice]


def mismatches(pipeline):
    """Each foreign domain that a validation was refused for is known to the vendor."""
    told = {tuple(row) for row in pipeline.postgres.rows(
        "select license_id, data->>'requested_domain' from alert where data->>'reason' = 'domain_mismatch'")}
    dropped = sum(int(row[4] or 0) for row in pipeline.postgres.rows(LEDGER) if row[1] == "license.validations.v1")
    untold = sorted(pipeline.clients.truth.mismatches - told)
    return [f"no alert about {pair}" for pair in untold[:5]] if len(untold) > dropped else []


def deliveries(pipeline):
    """Every alert was delivered to the endpoint, and the endpoint saw it, signed."""
    wrong = []
    rows = pipeline.postgres.rows(
        "select a.alert_id, a.type, d.status, d.webhook_id from alert a left join webhook_delivery d using (alert_id)")
    heard = pipeline.receiver.delivered
    for alert, kind, status, webhook in rows:
        if status != "delivered" or heard[webhook] == 0:
            wrong.append(f"alert {alert} ({kind}): {status or 'no delivery'}, heard {heard[webhook]} times")
    if pipeline.receiver.forged:
        wrong.append(f"{pipeline.receiver.forged} webhooks had a wrong signature")
    return wrong


def pending_deliveries(pipeline):
    return int(pipeline.postgres.query(
        "select count(*) from alert a left join webhook_delivery d using (alert_id) where d.status is distinct from 'delivered'"))
