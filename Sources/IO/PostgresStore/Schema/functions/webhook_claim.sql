-- Claims due deliveries for `lease_seconds`: at most `most` deliveries, and for each endpoint
-- `per_endpoint`, or what `rooms` says if `loaded` names the endpoint. An endpoint whose breaker is
-- open gets a single one when its time has come, as a probe. Endpoints whose deliveries have waited
-- longest come first. Claims of several dispatchers skip each other's rows.
--
-- A due row that still has a lease was claimed by a dispatcher that ended without reporting. That
-- counts as a failed attempt: it is recorded, and the delivery is claimed now (the first time) or
-- waits (later).
create or replace function webhook_claim(most int, per_endpoint int, loaded text[], rooms int[], lease_seconds int)
returns table (delivery_id bigint, endpoint_id text, webhook_id text, retry_step int, lease bigint, url text,
  signing text, secrets text, type text, license_id text, occurred_at text, data jsonb, attempts int,
  due_seconds_ago float8, is_probe boolean)
language plpgsql
-- These settings give one plan that always uses the index, whatever the statistics say about a
-- queue that is usually empty.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  -- This is a value, because the volatile function would filter the rows that the index finds
  -- instead of ending its scan.
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
    -- The next probe by any dispatcher is a lease away. The one that probes now moves it again with
    -- the result.
    update webhook_endpoint e set open_until = moment + make_interval(secs => lease_seconds)
    from (
      select p.endpoint_id from webhook_endpoint p
      where p.endpoint_id in (select due.endpoint_id from due where due.is_probe)
        and p.open_until <= moment
      for no key update skip locked) p
    where e.endpoint_id = p.endpoint_id returning e.endpoint_id
  ), picked as materialized (
    select c.delivery_id, c.next_attempt_at as was_due, due.is_probe, c.was_lost, c.retry_step
    from due, lateral (
      select d.delivery_id, d.next_attempt_at, d.lease is not null as was_lost, d.retry_step from webhook_delivery d
      where d.endpoint_id = due.endpoint_id and d.status = 'pending'
        and d.next_attempt_at <= moment
      order by d.next_attempt_at limit due.room for update skip locked) c
    where not due.is_probe or due.endpoint_id in (select probing.endpoint_id from probing)
    limit most
  ), lost as (
    update webhook_delivery d
    set attempts = d.attempts + 1, retry_step = d.retry_step + 1, lease = null,
      status = case when p.wait is null then 'failed' else d.status end,
      next_attempt_at = moment + p.wait,
      finished_at = case when p.wait is null then moment end
    from (select *, webhook_lost_wait(picked.retry_step) as wait from picked
      where picked.was_lost and picked.retry_step > 0) p
    where d.delivery_id = p.delivery_id
    returning d.delivery_id, d.attempts, p.was_due
  ), taken as (
    update webhook_delivery d
    set next_attempt_at = moment + make_interval(secs => lease_seconds),
      lease = nextval('webhook_lease'),
      attempts = d.attempts + p.was_lost::int, retry_step = d.retry_step + p.was_lost::int
    from picked p where d.delivery_id = p.delivery_id and not (p.was_lost and p.retry_step > 0)
    returning d.delivery_id, d.endpoint_id, d.alert_id, d.webhook_id, d.retry_step, d.lease, d.attempts,
      p.was_due, p.was_lost, p.is_probe
  ), noted as (
    insert into webhook_attempt (delivery_id, attempt, at, error, duration_ms)
    select n.delivery_id, n.attempts, n.was_due, 'lost: the dispatcher ended without a report', 0
    from (select lost.delivery_id, lost.attempts, lost.was_due from lost
      union all select taken.delivery_id, taken.attempts, taken.was_due from taken where taken.was_lost) n
  )
  select t.delivery_id, t.endpoint_id::text, t.webhook_id, t.retry_step, t.lease, e.url, e.signing,
    (select string_agg(encode(w.ciphertext, 'hex'), ',' order by w.secret_id desc) from webhook_secret w
     where w.endpoint_id = t.endpoint_id and coalesce(w.expires_at > moment, true)),
    a.type, a.license_id::text, to_char(a.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    -- The vendor receives the alerts of all customers, so its data names the customer.
    case when e.customer_id is null and a.customer_id is not null
      then jsonb_build_object('customer_id', a.customer_id) || a.data else a.data end,
    t.attempts, extract(epoch from moment - t.was_due)::float8, t.is_probe
  from taken t join webhook_endpoint e on e.endpoint_id = t.endpoint_id join alert a on a.alert_id = t.alert_id;
end $$;
