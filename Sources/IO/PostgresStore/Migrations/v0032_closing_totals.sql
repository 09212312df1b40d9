-- A close takes its sums from the running totals.
--
-- It summed the days of every license again, and it walked over tables that grow with the years. Now it
-- reads the totals and the deltas that wait for them, and it looks up large tables by their keys. It
-- waits for the combining only if something of its periods is appended.

update schema_version set version = 32;

-- Adds to `closing_period` the periods of `closing` whose licenses have totals: those up to
-- made_through in the order of bytes, or all of them. The totals and what waits in usage_delta add up
-- to the days. One statement reads both, because a fold may move rows from one to the other.
create function usage_closing_by_totals(made_through text, is_complete boolean) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into closing_period
  select u.license_id, u.meter, u.first_day, u.end_day, sum(u.quantity)::bigint,
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start as first_day, t.period_end as end_day, t.quantity,
      t.event_count
    from closing c, lateral (
      select * from usage_license_period p where p.license_id = c.license_id
        and p.period_start >= c.closed_from and p.period_start < c.boundary offset 0) t
    where (is_complete or c.license_id <= made_through) and (c.meter is null or t.meter = c.meter)
    union all
    select d.license_id, d.meter, p.first_day, p.end_day, d.quantity, d.event_count
    from (
      select w.license_id, w.meter, w.day, sum(w.quantity) as quantity,
        sum(w.event_count) as event_count
      from usage_delta w join closing c on c.license_id = w.license_id
        and w.day >= c.closed_from and w.day < c.boundary and (c.meter is null or w.meter = c.meter)
      where (is_complete or c.license_id <= made_through)
        and w.day < (select max(boundary) from closing)
      group by 1, 2, 3
    ) d, period_of(d.license_id, d.day) p
  ) u group by 1, 2, 3, 4;
end $$;

-- Adds to `closing_period` the periods of `closing` whose licenses have no totals yet: those after
-- made_through in the order of bytes. Nothing of them is pending or appended.
create function usage_closing_by_days(made_through text) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  with chosen as materialized (
    select * from closing where license_id > made_through
  ), interval_of as materialized (
    select b.license_id, b.effective_from, b.anchor_day,
      lead(b.effective_from) over (partition by b.license_id order by b.effective_from) as until
    from chosen c join license_billing_anchor b on b.license_id = c.license_id
  ), covering as (
    select * from interval_of
    union all
    select c.license_id, '-infinity', 1, min(i.effective_from)
    from chosen c left join interval_of i on i.license_id = c.license_id group by c.license_id
    having min(i.effective_from) is distinct from '-infinity'
  )
  insert into closing_period
  select c.license_id, d.meter, d.first_day, d.end_day, d.quantity, d.event_count
  from chosen c join covering b on b.license_id = c.license_id, lateral (
    select u.meter, greatest(last_anchor(u.day, b.anchor_day), b.effective_from) as first_day,
      least(next_anchor(u.day, b.anchor_day), b.until) as end_day,
      sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
    from usage_day u
    where u.license_id = c.license_id and u.day >= greatest(c.closed_from, b.effective_from)
      and u.day < least(c.boundary, b.until) and (c.meter is null or u.meter = c.meter)
    group by 1, 2, 3 offset 0) d;
end $$;

-- Whether something of the periods in `closing` is appended. It is looked up by the index, whatever the
-- planner guesses.
create function usage_closing_appended() returns boolean
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  return exists (
    select from closing c, lateral (
      select from usage_appended u where u.license_id = c.license_id
        and u.hour < c.boundary::timestamp at time zone 'UTC' limit 1) a);
end $$;

-- Closes the periods in `closing` and returns how many. Call it once in a transaction, after
-- usage_close_lock().
create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
  state usage_total_state;
begin
  -- Before the lock that merges wait for. Mostly nothing is appended, and then no combining is waited
  -- for.
  if usage_closing_appended() then perform pg_advisory_xact_lock(usage_combine_lock_key()); end if;
  perform pg_advisory_xact_lock(limit_lock_key());
  with taken as (
    delete from only usage_pending where ctid = any (array(
      select p.place from usage_unmerged p join closing c on c.license_id = p.license_id
        and p.hour < c.boundary::timestamp at time zone 'UTC'
      where p.hour < (select max(boundary)::timestamp at time zone 'UTC' from closing)))
    returning *
  ) insert into merging select * from taken;
  if found then
    perform usage_merging_isolate();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- What is appended goes into the days, so that a statement has the same domains for ever.
  if usage_closing_appended() then
    perform pg_advisory_xact_lock(usage_combine_lock_key());
    with taken as (
      delete from usage_appended where ctid = any (array(
        select a.place from closing c, lateral (
          select u.ctid as place from usage_appended u where u.license_id = c.license_id
            and u.hour < c.boundary::timestamp at time zone 'UTC' offset 0) a))
      returning *
    ) insert into merging select * from taken;
    perform usage_merging_settle();
  end if;

  -- Totals that are made stay made, so both functions are told the same state.
  select * into state from usage_total_state;
  perform usage_closing_by_totals(state.made_through, state.is_complete);
  if not state.is_complete then perform usage_closing_by_days(state.made_through); end if;
  -- What was closed alone before. Here and below, large tables are looked up by their keys, whatever
  -- the planner guesses: a walk over years of closed periods would cost more than the close.
  delete from closing_period p where exists (
    select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
      and x.period_start = p.period_start offset 0);

  -- What was late goes on the invoices that are closed now.
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
    event_count, included, overage, customer_id, closed_at, close_id)
  select p.license_id, p.meter, p.period_start, p.period_end, p.quantity, p.event_count, l.quantity,
    case when l.quantity is null then 0 else least(greatest(p.quantity - l.quantity + coalesce((
      select sum(e.quantity) from usage_adjustment_entry e
      where e.license_id = p.license_id and e.meter = p.meter and e.kind = 'manual'
        and e.applies_to_period_start >= p.period_start
        and e.applies_to_period_start < p.period_end), 0), 0), 9000000000000000000) end,
    c.customer_id, now(), of_close
  from closing_period p join closing c on c.license_id = p.license_id
  left join lateral (
    select i.quantity from license_limit i where i.license_id = p.license_id and i.meter = p.meter
    offset 0) l on true
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

-- Lets no other close and no change of an anchor begin, and creates the table of what will be closed:
-- whole licenses from closed_from to boundary, or one meter of one license.
create or replace function usage_close_lock() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a close must see what was merged before it: use READ COMMITTED';
  end if;
  perform pg_advisory_xact_lock(close_lock_key());
  create temp table if not exists closing (
    license_id text collate "C" primary key, meter text collate "C", customer_id text,
    closed_from date not null, boundary date not null) on commit delete rows;
  create temp table if not exists closing_period (
    license_id text collate "C", meter text collate "C", period_start date, period_end date,
    quantity bigint not null, event_count bigint not null,
    primary key (license_id, meter, period_start)) on commit delete rows;
  create temp table if not exists closing_late (
    license_id text collate "C", meter text collate "C", period_start date, invoiced date,
    quantity bigint not null, event_count bigint not null) on commit delete rows;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
end $$;

-- Closes the periods that end up to a day, for the next licenses in the order of bytes. Returns the
-- last of these licenses (null after the last one) and how many periods were closed. Each call is a
-- transaction, so that merges run between two calls. A call that is cut off closes nothing for its
-- licenses.
create or replace function usage_close_next(
  of_close bigint, after_license text, through date, of_customer text, most int
) returns table (last_license text, closed bigint)
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  perform usage_close_lock();
  with known as materialized (
    (select l.license_id from license l where l.license_id > after_license
      and (of_customer is null or l.customer_id = of_customer) order by 1 limit most)
    union
    (select distinct t.license_id from usage_license_period t
      where t.license_id > after_license and of_customer is null order by 1 limit most)
    order by 1 limit most
  ), waiting as (
    -- No license after a full list of known ones is among the next. Much may wait of such licenses,
    -- and it need not be sorted.
    select w.license_id from (
      select license_id from usage_delta union all select license_id from usage_unmerged) w
    where w.license_id > after_license and of_customer is null
      and ((select count(*) from known) < most
        or w.license_id < (select max(license_id) from known))
  ), candidate as materialized (
    select u.license_id from (
      select license_id from known
      union
      select license_id from waiting
      union
      -- Until the totals of older days are made.
      (select distinct t.license_id from usage_appended t
        where t.license_id > after_license and of_customer is null
          and not (select is_complete from usage_total_state) order by 1 limit most)
      union
      (select distinct t.license_id from usage_day t
        where t.license_id > after_license and of_customer is null
          and not (select is_complete from usage_total_state) order by 1 limit most)
    ) u order by 1 limit most
  ), chosen as (
    insert into closing (license_id, customer_id, closed_from, boundary)
    select x.license_id, l.customer_id, coalesce(c.closed_through, '-infinity'), p.first_day
    from candidate x
    -- Looked up by their keys, whatever the planner guesses.
    left join lateral (
      select i.customer_id from license i where i.license_id = x.license_id offset 0) l on true
    left join lateral (
      select k.closed_through from license_closing k where k.license_id = x.license_id offset 0
    ) c on true,
      period_of(x.license_id, least(through, today)) p
    where p.first_day > coalesce(c.closed_through, '-infinity')
  )
  select max(license_id) into last_license from candidate;
  closed := case when exists (select from closing) then usage_close_chosen(of_close) else 0 end;
  return next;
end $$;
