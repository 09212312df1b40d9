-- Alerts and their webhooks. An alert and its deliveries are rows of the transaction that found the cause, so there is never the one
-- without the other; webhook-dispatcher takes the deliveries from there. docs/webhooks.md says what customers are promised.

update schema_version set version = 2;

-- What happened --------------------------------------------------------------------------------------

create table alert (
  alert_id bigint generated always as identity primary key,
  type text not null check (type ~ '^[a-z][a-z0-9_]*([.][a-z0-9_]+)+$'),
  -- No foreign keys: events of licenses that nobody registered are judged too, and an alert outlives what it tells of.
  license_id text collate "C",
  customer_id text,
  occurred_at timestamptz not null,
  data jsonb not null check (jsonb_typeof(data) = 'object'),
  -- At most one alert a cause, however often its events are read.
  dedupe_key text collate "C" not null unique check (octet_length(dedupe_key) between 1 and 500),
  -- Where in the log the cause lies (epoch, partition, offsets); never part of a webhook.
  evidence jsonb,
  created_at timestamptz not null default now()
);
create index alert_by_license on alert (license_id, occurred_at);
create index alert_by_time on alert (occurred_at);

-- Who is told ----------------------------------------------------------------------------------------

create table webhook_endpoint (
  endpoint_id text collate "C" primary key,
  -- Null: alerts of all customers, for the vendor.
  customer_id text references customer,
  url text not null check (length(url) between 1 and 2048),
  -- Types of alerts; empty or '*': all.
  events text[] not null default '{}',
  status text not null default 'active' check (status in ('active', 'disabled')),
  disabled_reason text,
  disabled_at timestamptz,
  signing text not null default 'v1' check (signing in ('v1', 'v1a')),
  -- The circuit breaker, shared by all dispatchers: failures since the last success, the first of them, and until when
  -- nothing is sent but one probe at that moment.
  consecutive_failures int not null default 0 check (consecutive_failures >= 0),
  failing_since timestamptz,
  open_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check ((status = 'disabled') = (disabled_at is not null)),
  check (status = 'active' or disabled_reason is not null),
  check ((consecutive_failures = 0) = (failing_since is null)),
  check (open_until is null or consecutive_failures > 0)
) with (fillfactor = 70);
create index webhook_endpoint_by_customer on webhook_endpoint (customer_id);

-- Secrets, encrypted with METER_ENCRYPTION_KEY. Two or more while one is being replaced: all sign until they expire.
create table webhook_secret (
  secret_id bigint generated always as identity primary key,
  endpoint_id text collate "C" not null references webhook_endpoint on delete cascade,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  -- Null: the newest.
  expires_at timestamptz
);
create unique index webhook_secret_newest on webhook_secret (endpoint_id) where expires_at is null;
create index webhook_secret_by_endpoint on webhook_secret (endpoint_id);

-- pending ──► delivered
--    │  ▲└──► failed      the last retry failed
--    │  └──── any end: redeliver, recover
--    └──────► discarded   its endpoint was disabled
create table webhook_delivery (
  delivery_id bigint generated always as identity primary key,
  alert_id bigint not null references alert on delete cascade,
  endpoint_id text collate "C" not null references webhook_endpoint on delete cascade,
  -- The same on every try: what receivers know a repetition by.
  webhook_id text not null,
  status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'discarded')),
  -- Attempts ever made; retry_step counts those since the last redelivery: the place in the retry schedule.
  attempts int not null default 0 check (attempts >= 0),
  retry_step int not null default 0 check (retry_step >= 0),
  -- A claim moves it behind the lease: a dispatcher that dies has its deliveries taken by another then.
  next_attempt_at timestamptz default now(),
  -- Of the claim under way. Results of a claim that is no longer the newest schedule nothing.
  lease bigint,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  unique (alert_id, endpoint_id),
  check ((status = 'pending') = (next_attempt_at is not null)),
  check ((status = 'pending') = (finished_at is null)),
  check (status = 'pending' or lease is null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.1);
-- The claim's: one step leads to each endpoint that has something pending, and to what is due first there. A million pending deliveries of
-- one endpoint cost the others nothing, which an index by time alone cannot give.
create index webhook_delivery_pending on webhook_delivery (endpoint_id, next_attempt_at)
  where status = 'pending';
create index webhook_delivery_by_endpoint on webhook_delivery (endpoint_id, created_at)
  where status <> 'pending';
create sequence webhook_lease cycle;

create table webhook_attempt (
  delivery_id bigint not null references webhook_delivery on delete cascade,
  attempt int not null check (attempt > 0),
  at timestamptz not null,
  status_code int,
  -- A word for programs (docs/webhooks.md) and, behind a colon, words for people.
  error text,
  duration_ms int not null check (duration_ms >= 0),
  -- The first 1 KiB of the answer's body.
  response bytea check (length(response) <= 1024),
  primary key (delivery_id, attempt),
  check (status_code is not null or error is not null)
);

-- Raising --------------------------------------------------------------------------------------------

create function webhook_id_of(dedupe_key text, endpoint_id text) returns text
language sql immutable strict parallel safe as $$
  select 'msg_' || left(encode(sha256(convert_to(dedupe_key || E'\x1f' || endpoint_id, 'UTF8')), 'hex'), 32)
$$;

-- The alert, and a delivery for each active endpoint of the customer's and the vendor's that wants its type, in the caller's
-- transaction. Null where the key exists: whoever raised it first has told everybody.
create function alert_raise_for(
  type text, license_id text, customer_id text, occurred_at timestamptz, data jsonb, dedupe_key text,
  evidence jsonb default null
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
  raised bigint;
  made int;
begin
  -- An index holds no keys of any length, and customers choose the ids that keys are made of.
  if octet_length(dedupe_key) > 500 then
    dedupe_key := type || '/sha256/' || encode(sha256(convert_to(dedupe_key, 'UTF8')), 'hex');
  end if;
  insert into alert as a (type, license_id, customer_id, occurred_at, data, dedupe_key, evidence)
  values (type, license_id, customer_id, occurred_at,
    case when license_id is null then data else data || jsonb_build_object('license_id', license_id) end,
    dedupe_key, evidence)
  on conflict do nothing returning a.alert_id into raised;
  if raised is null then return null; end if;
  insert into webhook_delivery (alert_id, endpoint_id, webhook_id)
  select raised, e.endpoint_id, webhook_id_of(dedupe_key, e.endpoint_id)
  from webhook_endpoint e
  where (e.customer_id = alert_raise_for.customer_id or e.customer_id is null) and e.status = 'active'
    and (e.events = '{}' or e.events && array['*', type])
  -- One that is just being deleted is waited for and left out: its foreign key would fail the caller's transaction.
  order by e.endpoint_id for key share of e;
  get diagnostics made = row_count;
  -- Heard at COMMIT, once a transaction: no payload, so that a thousand alerts are one wake-up.
  if made > 0 then perform pg_notify('webhook_delivery', ''); end if;
  return raised;
end $$;

-- The same for a license: its customer is who is told. Of a license that nobody registered, only the vendor hears.
create function alert_raise(
  type text, license_id text, occurred_at timestamptz, data jsonb, dedupe_key text, evidence jsonb default null
) returns bigint language sql as $$
  select alert_raise_for(type, license_id,
    (select l.customer_id from license l where l.license_id = alert_raise.license_id), occurred_at, data, dedupe_key,
    evidence)
$$;

-- Delivering -----------------------------------------------------------------------------------------

-- Takes what is due, for `lease_seconds`. At most `most` deliveries, and of each endpoint `per_endpoint`, or of an endpoint that
-- `loaded` names, what `rooms` says; of one whose breaker is open, one when its time has come: the probe. Endpoints whose work has
-- waited longest come first. Claims of several dispatchers skip each other's rows.
create function webhook_claim(most int, per_endpoint int, loaded text[], rooms int[], lease_seconds int)
returns table (delivery_id bigint, endpoint_id text, webhook_id text, retry_step int, lease bigint, url text,
  signing text, secrets text, type text, license_id text, occurred_at text, data jsonb, attempts int,
  due_seconds_ago float8, is_probe boolean)
language plpgsql
-- One plan for good, by the index, whatever the statistics of a queue that is empty most of the time say.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  -- A value, not the volatile function: that would filter what the index has found instead of ending its scan.
  moment timestamptz := clock_timestamp();
begin
  return query
  with recursive step as (
    (select d.endpoint_id, d.next_attempt_at from webhook_delivery d
     where d.status = 'pending' order by d.endpoint_id, d.next_attempt_at limit 1)
    union all
    select n.endpoint_id, n.next_attempt_at from step s, lateral (
      select d.endpoint_id, d.next_attempt_at from webhook_delivery d
      where d.status = 'pending' and d.endpoint_id > s.endpoint_id
      order by d.endpoint_id, d.next_attempt_at limit 1) n
  ), due as materialized (
    select s.endpoint_id, s.next_attempt_at, e.open_until is not null as is_probe,
      case when e.open_until is not null then 1 else coalesce(l.room, per_endpoint) end as room
    from step s join webhook_endpoint e on e.endpoint_id = s.endpoint_id
    left join unnest(loaded, rooms) l(endpoint_id, room) on l.endpoint_id = s.endpoint_id
    where s.next_attempt_at <= moment and e.status = 'active'
      and coalesce(e.open_until <= moment, true) and coalesce(l.room, per_endpoint) > 0
    order by s.next_attempt_at limit most
  ), probing as (
    -- The next probe of anybody is a lease away; who probes now moves it again with the result.
    update webhook_endpoint e set open_until = moment + make_interval(secs => lease_seconds)
    from (
      select p.endpoint_id from webhook_endpoint p
      where p.endpoint_id in (select due.endpoint_id from due where due.is_probe)
        and p.open_until <= moment
      for no key update skip locked) p
    where e.endpoint_id = p.endpoint_id returning e.endpoint_id
  ), picked as (
    select c.delivery_id, c.next_attempt_at as was_due, due.is_probe
    from due, lateral (
      select d.delivery_id, d.next_attempt_at from webhook_delivery d
      where d.endpoint_id = due.endpoint_id and d.status = 'pending'
        and d.next_attempt_at <= moment
      order by d.next_attempt_at limit due.room for update skip locked) c
    where not due.is_probe or due.endpoint_id in (select probing.endpoint_id from probing)
    limit most
  ), taken as (
    update webhook_delivery d
    set next_attempt_at = moment + make_interval(secs => lease_seconds),
      lease = nextval('webhook_lease')
    from picked p where d.delivery_id = p.delivery_id
    returning d.delivery_id, d.endpoint_id, d.alert_id, d.webhook_id, d.retry_step, d.lease, d.attempts,
      extract(epoch from moment - p.was_due)::float8 as due_seconds_ago, p.is_probe
  )
  select t.delivery_id, t.endpoint_id::text, t.webhook_id, t.retry_step, t.lease, e.url, e.signing,
    (select string_agg(encode(w.ciphertext, 'hex'), ',' order by w.secret_id desc) from webhook_secret w
     where w.endpoint_id = t.endpoint_id and coalesce(w.expires_at > moment, true)),
    a.type, a.license_id::text, to_char(a.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    a.data, t.attempts, t.due_seconds_ago, t.is_probe
  from taken t join webhook_endpoint e on e.endpoint_id = t.endpoint_id join alert a on a.alert_id = t.alert_id;
end $$;

-- Writes what became of attempts, one element of every array an attempt; `retry_ms` null: none follows. A delivery that was
-- delivered stays so; a failure of a lease that was lost meanwhile is written down and schedules nothing.
create function webhook_record(
  ids bigint[], leases bigint[], succeeded boolean[], retry_ms bigint[], ats timestamptz[], status_codes int[],
  errors text[], durations_ms int[], responses text[]
) returns void language sql as $$
  with result as (
    select * from unnest(ids, leases, succeeded, retry_ms, ats, status_codes, errors, durations_ms, responses)
      as r(delivery_id, lease, succeeded, retry_ms, at, status_code, error, duration_ms, response)
  ), locked as (
    select d.delivery_id from webhook_delivery d
    where d.delivery_id = any (ids) order by d.delivery_id for no key update
  ), updated as (
    update webhook_delivery d set
      attempts = d.attempts + 1,
      retry_step = case when d.lease = r.lease then d.retry_step + 1 else d.retry_step end,
      status = case when r.succeeded then 'delivered'
        when d.lease = r.lease and r.retry_ms is null then 'failed' else d.status end,
      next_attempt_at = case when r.succeeded then null
        when d.lease is distinct from r.lease then d.next_attempt_at
        else clock_timestamp() + make_interval(secs => r.retry_ms / 1000.0) end,
      finished_at = case when r.succeeded then coalesce(d.finished_at, clock_timestamp())
        when d.lease = r.lease and r.retry_ms is null then clock_timestamp() else d.finished_at end,
      lease = case when r.succeeded or d.lease = r.lease then null else d.lease end
    from result r join locked using (delivery_id)
    where d.delivery_id = r.delivery_id
    returning d.delivery_id, d.attempts, r.at, r.status_code, r.error, r.duration_ms, r.response
  )
  insert into webhook_attempt (delivery_id, attempt, at, status_code, error, duration_ms, response)
  select delivery_id, attempts, at, status_code, error, duration_ms, decode(response, 'hex') from updated
$$;

-- Gives claims back that were never tried.
create function webhook_release(ids bigint[], leases bigint[]) returns void language sql as $$
  update webhook_delivery d set next_attempt_at = clock_timestamp(), lease = null
  from unnest(ids, leases) r(delivery_id, lease)
  where d.delivery_id = r.delivery_id and d.lease = r.lease
$$;

-- True where it was active. What it still had to deliver is discarded behind this, some at a time.
create function webhook_endpoint_disable(endpoint text, reason text, with_alert boolean) returns boolean
language plpgsql as $$
declare
  found_row webhook_endpoint;
  since timestamptz;
begin
  select failing_since into since from webhook_endpoint where endpoint_id = endpoint for no key update;
  update webhook_endpoint set status = 'disabled', disabled_reason = reason, disabled_at = clock_timestamp(),
    updated_at = now(), consecutive_failures = 0, failing_since = null, open_until = null
  where endpoint_id = endpoint and status = 'active' returning * into found_row;
  if not found then return false; end if;
  if with_alert then
    perform alert_raise_for('webhook.endpoint_disabled', null, found_row.customer_id, found_row.disabled_at,
      jsonb_strip_nulls(jsonb_build_object('endpoint_id', endpoint, 'url', found_row.url, 'reason', reason,
        'customer_id', found_row.customer_id,
        'failing_since', to_char(since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))),
      'webhook.endpoint_disabled/' || endpoint || '/' || extract(epoch from found_row.disabled_at)::text);
  end if;
  return true;
end $$;

-- Deliveries of disabled endpoints: a delivery may also have been made while its endpoint was being disabled.
create function webhook_discard(most int) returns bigint language sql as $$
  with chosen as (
    select c.delivery_id from webhook_endpoint e, lateral (
      select d.delivery_id from webhook_delivery d
      where d.endpoint_id = e.endpoint_id and d.status = 'pending' limit most for update skip locked) c
    where e.status = 'disabled' limit most
  ), gone as (
    update webhook_delivery d set status = 'discarded', next_attempt_at = null, lease = null,
      finished_at = clock_timestamp()
    from chosen c where d.delivery_id = c.delivery_id returning 1
  ) select count(*) from gone
$$;

-- Expiry ---------------------------------------------------------------------------------------------

create index license_by_expiry on license (expires_at) where status = 'active';

-- Raises at most `most` notices that are due, and answers how many. Of each license only the one of the stage it is in now: after days of
-- standing still nobody hears of stages that are over. None for a stage that had begun when the license was registered (an import of
-- licenses that expired long ago, a trial of a week), nor for one that began over 30 days ago. A renewed license has another
-- `expires_at`, so its notices come anew.
create function expiry_notices_raise(most int, at timestamptz default now()) returns int language plpgsql as $$
declare
  notice record;
  raised int := 0;
begin
  -- One sweep at a time, whoever runs it; the others have nothing to do.
  if not pg_try_advisory_xact_lock(hashtextextended('expiry notices', 0)) then return 0; end if;
  for notice in
    with stage as (
      select l.license_id, l.expires_at, l.trial, s.type, s.days, s.begins
      from license l, lateral (values
        ('license.expiring', 14, l.expires_at - interval '14 days', l.expires_at - interval '3 days'),
        ('license.expiring', 3, l.expires_at - interval '3 days', l.expires_at - interval '1 day'),
        ('license.expiring', 1, l.expires_at - interval '1 day', l.expires_at),
        ('license.grace_started', null, l.expires_at,
          case when l.trial then l.expires_at else l.expires_at + interval '7 days' end),
        ('license.expired', null, case when l.trial then l.expires_at else l.expires_at + interval '7 days' end,
          l.expires_at + interval '37 days')
      ) s(type, days, begins, ends)
      where l.status = 'active' and l.expires_at > at - interval '37 days'
        and l.expires_at <= at + interval '14 days' and s.begins <= at and at < s.ends
        and l.created_at < s.begins
    ), keyed as (
      select *, concat_ws('/', type, license_id, extract(epoch from expires_at)::bigint, days) as dedupe_key from stage
    )
    select * from keyed k where not exists (select from alert a where a.dedupe_key = k.dedupe_key)
    order by k.begins limit most
  loop
    if alert_raise(notice.type, notice.license_id, notice.begins,
      jsonb_strip_nulls(jsonb_build_object(
        'expires_at', to_char(notice.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'days_before', notice.days, 'trial', notice.trial,
        'grace_ends_at', case when not notice.trial then
          to_char((notice.expires_at + interval '7 days') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end)),
      notice.dedupe_key) is not null
    then raised := raised + 1; end if;
  end loop;
  return raised;
end $$;
