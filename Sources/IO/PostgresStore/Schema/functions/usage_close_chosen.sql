-- Closes the periods in `closing` and returns how many. Call it once in a transaction, after
-- usage_close_lock().
create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
  state usage_total_state;
begin
  -- This lock comes before the one that merges wait for. Mostly nothing is appended, and then the
  -- close does not wait for combining.
  if usage_closing_appended() then perform pg_advisory_xact_lock(usage_combine_lock_key()); end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with large as (
    delete from only usage_pending where ctid = any (array(
      select p.place from usage_unmerged_large p join closing c on c.license_id = p.license_id
        and p.hour < c.boundary::timestamp at time zone 'UTC'
      where p.hour < (select max(boundary)::timestamp at time zone 'UTC' from closing)))
    returning *
  ), recent as (
    delete from usage_pending_recent where ctid = any (array(
      select p.place from closing c, lateral (
        select q.ctid as place from usage_pending_recent q where q.license_id = c.license_id
          and q.hour < c.boundary::timestamp at time zone 'UTC' offset 0) p))
    returning *
  ) insert into merging select * from large union all select * from recent;
  if found then
    perform usage_merging_isolate();
    perform usage_closed_domains_keep();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- Appended rows go into the days now, so that a statement always has the same domains.
  if usage_closing_appended() then
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    with taken as (
      delete from usage_appended where ctid = any (array(
        select a.place from closing c, lateral (
          select u.ctid as place from usage_appended u where u.license_id = c.license_id
            and u.hour < c.boundary::timestamp at time zone 'UTC' offset 0) a))
      returning *
    ) insert into merging select * from taken;
    perform usage_merging_settle_fitting();
  end if;

  -- Totals that are made stay made, so both functions get the same state.
  select * into state from usage_total_state;
  perform usage_closing_by_totals(state.made_through, state.is_complete);
  if not state.is_complete then perform usage_closing_by_days(state.made_through); end if;
  -- Periods that were closed one by one before are left out. Here and below, large tables are
  -- looked up by their keys, whatever the planner guesses, because a walk over years of closed
  -- periods would cost more than the close.
  delete from closing_period p where exists (
    select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
      and x.period_start = p.period_start offset 0);

  -- Late usage goes on the invoices that are closed now.
  insert into closing_late
  select t.license_id, t.meter, t.period_start, n.invoiced, t.quantity - t.recorded_quantity,
    t.event_count - t.recorded_event_count
  from closing c, lateral (
      select * from usage_late u where u.license_id = c.license_id
        and (u.quantity <> u.recorded_quantity or u.event_count <> u.recorded_event_count)
      offset 0) t,
    lateral (select next_open_period(t.license_id, t.meter, t.period_end) as invoiced offset 0) n
  where (c.meter is null or t.meter = c.meter)
    and n.invoiced >= c.closed_from and n.invoiced < c.boundary;
  insert into closing_period
  select a.license_id, a.meter, p.first_day, p.end_day, 0, 0
  from (
    select license_id, meter, invoiced from closing_late
    union
    select e.license_id, e.meter, e.invoiced_period_start
    from closing c, lateral (
      select * from usage_adjustment_entry i where i.license_id = c.license_id offset 0) e
    where e.invoiced_period_start >= c.closed_from and e.invoiced_period_start < c.boundary
      and (c.meter is null or e.meter = c.meter)
  ) a, period_of(a.license_id, a.invoiced) p
  where not exists (
    select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
      and x.period_start <= a.invoiced and a.invoiced < x.period_end offset 0)
  on conflict do nothing;

  insert into usage_period_closed (license_id, meter, period_start, period_end, quantity,
    event_count, included, overage, customer_id, closed_at, close_id, customer_name, bound_domains)
  select p.license_id, p.meter, p.period_start, p.period_end, p.quantity, p.event_count, l.quantity,
    case when l.quantity is null then 0 else least(greatest(p.quantity - l.quantity + coalesce((
      select sum(e.quantity) from usage_adjustment_entry e
      where e.license_id = p.license_id and e.meter = p.meter and e.kind = 'manual'
        and e.applies_to_period_start >= p.period_start
        and e.applies_to_period_start < p.period_end), 0), 0), 9000000000000000000) end,
    c.customer_id, now(), of_close, n.name, coalesce(b.domains, '{}')
  from closing_period p join closing c on c.license_id = p.license_id
  left join lateral (
    select i.quantity from license_limit i where i.license_id = p.license_id and i.meter = p.meter
    offset 0) l on true
  left join lateral (
    select i.name from customer i where i.customer_id = c.customer_id offset 0) n on true
  left join lateral (
    select i.domains from license i where i.license_id = p.license_id offset 0) b on true
  order by 1, 2, 3;
  get diagnostics made = row_count;

  insert into usage_adjustment_entry (adjustment_id, license_id, meter, applies_to_period_start,
    invoiced_period_start, kind, quantity, event_count, reason, recorded_by)
  select concat_ws(':', 'late', t.license_id, t.meter, t.period_start, t.invoiced), t.license_id,
    t.meter, t.period_start, t.invoiced, 'late', t.quantity, t.event_count,
    'counted after the period was closed', 'usage-aggregator'
  from closing_late t order by t.license_id, t.meter, t.period_start;
  update usage_late t set recorded_quantity = t.quantity, recorded_event_count = t.event_count
  from closing_late n where t.license_id = n.license_id and t.meter = n.meter
    and t.period_start = n.period_start;

  insert into license_closing as k (license_id, closed_through, frozen_through, close_id, closed_at)
  select license_id, case when meter is null then boundary else '-infinity' end, boundary, of_close,
    now()
  from closing order by 1
  on conflict (license_id) do update set
    closed_through = greatest(k.closed_through, excluded.closed_through),
    frozen_through = greatest(k.frozen_through, excluded.frozen_through),
    close_id = excluded.close_id, closed_at = excluded.closed_at
  where excluded.closed_through > k.closed_through or excluded.frozen_through > k.frozen_through;
  update usage_close set closed = closed + made where close_id = of_close;
  return made;
end $$;
