-- Stores the results of attempts. Each array has one element for each attempt. A null `retry_ms`
-- means that no attempt follows. A delivered delivery stays delivered. A failure under a lease that
-- was lost meanwhile is recorded but schedules nothing.
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
