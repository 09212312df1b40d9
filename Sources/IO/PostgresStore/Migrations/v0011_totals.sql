-- Running totals: what each license used in each billing period, and what the licenses of each
-- customer used on each day. A merge appends what it adds to the day rows to usage_delta, in its
-- transaction, and usage_fold moves deltas into the totals behind it. So at every moment that a
-- reader can see:
--
--   a total + its deltas = the day rows below it, and with pending rows = the views.
--
-- Deltas are appended and not upserted because an upsert costs a merge 8 us a row, and an append 1.

update schema_version set version = 11;

-- The anchors ------------------------------------------------------------------------------------

-- Truncating the timestamp and not the date keeps the three immutable, so the planner inlines them.
create or replace function next_anchor(day date, anchor_day int) returns date
language sql immutable parallel safe as $$
  select case when anchor_date(date_trunc('month', day::timestamp)::date, anchor_day) > day
    then anchor_date(date_trunc('month', day::timestamp)::date, anchor_day)
    else anchor_date((date_trunc('month', day::timestamp) + interval '1 month')::date, anchor_day) end
$$;
create or replace function last_anchor(day date, anchor_day int) returns date
language sql immutable parallel safe as $$
  select case when anchor_date(date_trunc('month', day::timestamp)::date, anchor_day) <= day
    then anchor_date(date_trunc('month', day::timestamp)::date, anchor_day)
    else anchor_date((date_trunc('month', day::timestamp) - interval '1 month')::date, anchor_day) end
$$;

-- From which day (inclusive) to which (exclusive; null: for good) an anchor day holds. Days before
-- a license's first anchor, and licenses without one, follow the calendar month.
create view billing_interval as
select license_id, effective_from, anchor_day,
  lead(effective_from) over (partition by license_id order by effective_from) as until
from license_billing_anchor
union all
select license_id, '-infinity', 1, min(effective_from) from license_billing_anchor
group by license_id having min(effective_from) > '-infinity';

create or replace view usage_by_period as
select license_id || ':' || meter || ':' || to_char(first_day, 'YYYY-MM-DD') as period_id,
  license_id, meter, first_day::timestamp at time zone 'UTC' as period_start,
  end_day::timestamp at time zone 'UTC' as period_end,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count,
  null::timestamptz as closed_at, null::bigint as included, null::bigint as overage
from (
  select d.license_id, d.meter, d.quantity, d.event_count,
    greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) as first_day,
    least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) as end_day
  from (
    select license_id, meter, day, quantity, event_count from usage_day
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
    from usage_pending
  ) d
  left join billing_interval b on b.license_id = d.license_id
    and b.effective_from <= d.day and (d.day < b.until or b.until is null)
) p group by license_id, meter, first_day, end_day;

-- The totals -------------------------------------------------------------------------------------

-- What merges have added to usage_day and no fold has added to the totals.
create table usage_delta (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  day date not null,
  quantity bigint not null,
  event_count bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

create table usage_license_period (
  license_id text collate "C" not null,
  meter text collate "C" not null,
  period_start date not null,
  period_end date not null,
  quantity bigint not null,
  event_count bigint not null,
  constraint usage_license_period_ends_later check (period_start < period_end),
  primary key (license_id, meter, period_start)
) with (fillfactor = 70);
create index usage_license_period_by_end on usage_license_period (period_end);

create table usage_customer_day (
  -- Empty: licenses that nobody registered.
  customer_id text not null,
  meter text collate "C" not null,
  day date not null,
  -- Numeric, because many licenses whose days each fit 64 bits need not fit together.
  quantity numeric not null,
  event_count bigint not null,
  primary key (customer_id, meter, day)
) with (fillfactor = 70);

-- The totals of days that were there before this migration are made behind it, license by license.
create table usage_total_state (
  only_row boolean primary key default true
    constraint usage_total_state_is_one_row check (only_row),
  -- The totals of licenses up to this one (in the order of bytes) are made.
  made_through text collate "C" not null default '',
  is_complete boolean not null default false,
  -- Merges that began before this migration add no deltas: nothing is made before they have ended.
  installed_by xid8 not null default pg_current_xact_id()
);
insert into usage_total_state default values;

-- Folds hold it alone, and changes of licenses hold it shared. Neither a flush, nor a merge, nor a
-- reader waits for it.
create function usage_fold_lock_key() returns bigint language sql immutable as $$
  select 84960541030
$$;

-- What the totals hold of some licenses: their days without what waits in usage_delta. One statement
-- reads both, so a merge that commits meanwhile changes nothing.
create function usage_folded(licenses text[])
returns table (license_id text, meter text, day date, quantity numeric, event_count bigint)
language sql stable as $$
  with wanted as (
    select distinct n collate "C" as license_id from unnest(licenses) n
  )
  select f.license_id, f.meter, f.day, sum(f.quantity), sum(f.event_count)::bigint
  from (
    select d.license_id, d.meter, d.day, d.quantity, d.event_count
    from wanted w, lateral (
      -- By the index whatever the planner guesses: most licenses that are added have no days at all.
      select * from usage_day u where u.license_id = w.license_id offset 0) d
    union all
    select d.license_id, d.meter, d.day, -d.quantity, -d.event_count
    from wanted w join usage_delta d on d.license_id = w.license_id
  ) f
  group by 1, 2, 3 having sum(f.quantity) <> 0 or sum(f.event_count) <> 0
$$;

-- Adds days to the totals of periods. Rows are written in the order of their keys.
create function usage_periods_add(
  licenses text[], meters text[], days date[], quantities bigint[], event_counts bigint[]
) returns void language sql as $$
  insert into usage_license_period as t (license_id, meter, period_start, period_end, quantity,
    event_count)
  select u.license_id, u.meter,
    greatest(last_anchor(u.day, coalesce(b.anchor_day, 1)), b.effective_from),
    least(next_anchor(u.day, coalesce(b.anchor_day, 1)), b.until),
    sum(u.quantity)::bigint, sum(u.event_count)::bigint
  from unnest(licenses, meters, days, quantities, event_counts)
    u(license_id, meter, day, quantity, event_count)
  left join billing_interval b on b.license_id = u.license_id collate "C"
    and b.effective_from <= u.day and (u.day < b.until or b.until is null)
  group by 1, 2, 3, 4 order by 1, 2, 3
  on conflict (license_id, meter, period_start) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count
$$;

create function usage_customer_days_add(
  customers text[], meters text[], days date[], quantities numeric[], event_counts bigint[]
) returns void language sql as $$
  insert into usage_customer_day as t (customer_id, meter, day, quantity, event_count)
  select coalesce(u.customer_id, ''), u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from unnest(customers, meters, days, quantities, event_counts)
    u(customer_id, meter, day, quantity, event_count)
  group by 1, 2, 3 having sum(u.quantity) <> 0 or sum(u.event_count) <> 0
  order by 1, 2, 3
  on conflict (customer_id, meter, day) do update set
    quantity = t.quantity + excluded.quantity, event_count = t.event_count + excluded.event_count
$$;

-- The functions below compile nothing (jit): their estimates invite compilations that cost more than
-- what they do.

-- The fold ---------------------------------------------------------------------------------------

-- Makes the totals of the next licenses whose days were there before. Answers the days added.
create function usage_totals_make(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  state usage_total_state;
  last_license text collate "C";
  added bigint := 0;
begin
  select * into state from usage_total_state;
  if pg_snapshot_xmin(pg_current_snapshot()) <= state.installed_by then return 0; end if;
  select license_id into last_license from usage_day where license_id > state.made_through
  order by license_id offset most - 1 limit 1;
  if last_license is null then
    select max(license_id) into last_license from usage_day
    where license_id > state.made_through;
  end if;
  if last_license is not null then
    -- A step that was cut off left nothing: it is one transaction.
    with folded as materialized (
      select license_id, meter, day, sum(quantity)::bigint as quantity,
        sum(event_count)::bigint as event_count
      from (
        select license_id, meter, day, quantity, event_count from usage_day
        where license_id > state.made_through and license_id <= last_license
        union all
        select license_id, meter, day, -quantity, -event_count from usage_delta
        where license_id > state.made_through and license_id <= last_license
      ) f group by 1, 2, 3 having sum(quantity) <> 0 or sum(event_count) <> 0
    ), periods as (
      select usage_periods_add(array_agg(license_id), array_agg(meter), array_agg(day),
        array_agg(quantity), array_agg(event_count)) from folded
    ), customers as (
      select usage_customer_days_add(array_agg(l.customer_id), array_agg(f.meter),
        array_agg(f.day), array_agg(f.quantity::numeric), array_agg(f.event_count))
      from folded f left join license l on l.license_id = f.license_id
    )
    select count(*) into added from folded, periods, customers;
  end if;
  update usage_total_state set made_through = coalesce(last_license, made_through),
    is_complete = last_license is null;
  return greatest(added, 1);
end $$;

-- Moves deltas into the totals. Answers how many; 0 where nothing waits or another process folds.
create function usage_fold(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  if not pg_try_advisory_xact_lock(usage_fold_lock_key()) then return 0; end if;
  if not (select is_complete from usage_total_state) then
    moved := usage_totals_make(most);
    if moved > 0 then return moved; end if;
  end if;
  if not exists (select from usage_delta) then return 0; end if;
  create temp table if not exists folding (
    license_id text collate "C" not null, meter text collate "C" not null, day date not null,
    quantity bigint not null, event_count bigint not null) on commit delete rows;
  with taken as (
    delete from usage_delta where ctid = any (array(select ctid from usage_delta limit most))
    returning *
  ), counted as (
    select count(*) as n from taken
  ), kept as (
    -- Days of licenses whose totals are not made yet are in the day rows that will make them.
    insert into folding
    select t.license_id, t.meter, t.day, sum(t.quantity), sum(t.event_count)
    from taken t, usage_total_state s
    where s.is_complete or t.license_id <= s.made_through group by 1, 2, 3
  )
  select n into moved from counted;
  perform usage_periods_add(array_agg(license_id), array_agg(meter), array_agg(day),
    array_agg(quantity), array_agg(event_count)) from folding;
  perform usage_customer_days_add(array_agg(l.customer_id), array_agg(f.meter), array_agg(f.day),
    array_agg(f.quantity::numeric), array_agg(f.event_count))
  from folding f left join license l on l.license_id = f.license_id;
  return moved;
end $$;

-- Changes of licenses ----------------------------------------------------------------------------

-- Makes the totals of some licenses' periods from their days, by the anchors as they are now.
create function usage_periods_remake(licenses text[]) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if licenses is null then return; end if;
  -- Waits for a fold that read the anchors before the change, and lets none begin until it commits.
  perform pg_advisory_xact_lock_shared(usage_fold_lock_key());
  delete from usage_license_period p using usage_total_state s
  where p.license_id = any (licenses) and (s.is_complete or p.license_id <= s.made_through);
  perform usage_periods_add(array_agg(f.license_id), array_agg(f.meter), array_agg(f.day),
    array_agg(f.quantity::bigint), array_agg(f.event_count))
  from usage_folded(licenses) f, usage_total_state s
  where s.is_complete or f.license_id collate "C" <= s.made_through;
end $$;

create function usage_anchors_changed() returns trigger language plpgsql as $$
begin
  perform usage_periods_remake((select array_agg(distinct license_id) from changed));
  return null;
end $$;
create trigger usage_anchor_added after insert on license_billing_anchor
  referencing new table as changed for each statement execute function usage_anchors_changed();
create trigger usage_anchor_gone after delete on license_billing_anchor
  referencing old table as changed for each statement execute function usage_anchors_changed();
create function usage_anchors_updated() returns trigger language plpgsql as $$
begin
  perform usage_periods_remake((
    select array_agg(distinct license_id)
    from (select license_id from before union select license_id from after) c));
  return null;
end $$;
create trigger usage_anchor_updated after update on license_billing_anchor
  referencing old table as before new table as after
  for each statement execute function usage_anchors_updated();

-- Moves what licenses used from the days of one customer to those of another.
create function usage_customers_move(licenses text[], sources text[], targets text[]) returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if licenses is null then return; end if;
  perform pg_advisory_xact_lock_shared(usage_fold_lock_key());
  perform usage_customer_days_add(array_agg(c.customer_id), array_agg(f.meter), array_agg(f.day),
    array_agg(c.sign * f.quantity), array_agg(c.sign * f.event_count))
  from usage_total_state s, usage_folded(licenses) f
  join unnest(licenses, sources, targets) m(license_id, source, target)
    on m.license_id = f.license_id,
    lateral (values (m.source, -1), (m.target, 1)) c(customer_id, sign)
  where s.is_complete or f.license_id collate "C" <= s.made_through;
end $$;

create function usage_license_added() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(license_id), array_agg(null::text), array_agg(customer_id))
  from changed having count(*) > 0;
  return null;
end $$;
create function usage_license_gone() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(license_id), array_agg(customer_id), array_agg(null::text))
  from changed having count(*) > 0;
  return null;
end $$;
create function usage_license_moved() returns trigger language plpgsql as $$
begin
  perform usage_customers_move(array_agg(a.license_id), array_agg(b.customer_id),
    array_agg(a.customer_id))
  from before b join after a using (license_id)
  where a.customer_id is distinct from b.customer_id having count(*) > 0;
  return null;
end $$;
create trigger usage_license_added after insert on license
  referencing new table as changed for each statement execute function usage_license_added();
create trigger usage_license_gone after delete on license
  referencing old table as changed for each statement execute function usage_license_gone();
create trigger usage_license_moved after update on license
  referencing old table as before new table as after
  for each statement execute function usage_license_moved();

-- The merge --------------------------------------------------------------------------------------

-- Moves what is pending of some partitions into the hour and day rows and the limits, in one
-- transaction, so that every reader sees each event once: pending before, merged after. Rows are
-- written in the order of their keys, so that merges never deadlock.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if not exists (select from usage_pending where partition = any (owned)) then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with taken as (
    delete from usage_pending where partition = any (owned) returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 0; end if;
  if isolate then
    with sums as (
      select license_id, meter, (hour at time zone 'UTC')::date as day, sum(quantity) as quantity
      from merging group by 1, 2, 3
    ), broken as (
      select s.license_id, s.meter, s.day from sums s left join usage_day d using (license_id, meter, day)
      where s.quantity + coalesce(d.quantity, 0) > 100000000000000000
    ), aside as (
      delete from merging m using broken b
      where m.license_id = b.license_id and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
      returning m.*
    ) insert into usage_quarantine select *, now() from aside;
  end if;
  insert into usage_hour as h (license_id, meter, hour, log_epoch, partition, first_offset, last_offset,
    quantity, event_count, minutes)
  select license_id, meter, hour, log_epoch, partition, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint, string_agg(minutes, ',')
  from merging group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5
  on conflict (license_id, meter, hour, log_epoch, partition) do update set
    first_offset = least(h.first_offset, excluded.first_offset),
    last_offset = greatest(h.last_offset, excluded.last_offset),
    quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count,
    minutes = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then usage_minutes_compact(concat_ws(',', nullif(h.minutes, ''), excluded.minutes))
      else concat_ws(',', nullif(h.minutes, ''), excluded.minutes) end,
    minutes_compacted = case when length(h.minutes) > greatest(900, 2 * h.minutes_compacted)
      then least(length(h.minutes) / 2, 1500) else h.minutes_compacted end,
    written_at = now();
  insert into usage_day as d (license_id, meter, day, quantity, event_count, dimensions)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging group by 1, 2, 3 order by 1, 2, 3
  on conflict (license_id, meter, day) do update set
    quantity = d.quantity + excluded.quantity,
    event_count = d.event_count + excluded.event_count,
    dimensions = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then usage_dimensions_compact(concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')),
        (select domains from license l where l.license_id = d.license_id))
      else concat_ws(',', nullif(d.dimensions, ''), nullif(excluded.dimensions, '')) end,
    dimensions_compacted = case when length(d.dimensions) > greatest(1200, 2 * d.dimensions_compacted)
      then least(length(d.dimensions) / 2, 40000) else d.dimensions_compacted end,
    written_at = now();
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  perform limit_states_advance();
  return moved;
end $$;
drop function usage_merge_rows(int[], boolean);

-- Reads with parameters --------------------------------------------------------------------------

-- A license's minutes in [from_time, to_time). Only the hours that hold them are read.
create function usage_minutes(license text, from_time timestamptz, to_time timestamptz)
returns table (meter text, bucket_start timestamptz, quantity bigint, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.hour + make_interval(mins => (e->>0)::int), sum((e->>1)::bigint)::bigint,
    sum((e->>2)::bigint)::bigint
  from (
    select h.meter, h.hour, h.minutes from usage_hour h
    where h.license_id = license and h.hour > from_time - interval '1 hour' and h.hour < to_time
    union all
    select p.meter, p.hour, p.minutes from usage_pending p
    where p.license_id = license and p.hour > from_time - interval '1 hour' and p.hour < to_time
  ) u, json_array_elements(('[' || u.minutes || ']')::json) e
  where u.hour + make_interval(mins => (e->>0)::int) >= from_time
    and u.hour + make_interval(mins => (e->>0)::int) < to_time
  group by 1, 2
$$;

-- What is merged and not in the totals, and what is pending. The totals and these add up.
create view usage_unfolded as
select license_id, meter, day, quantity, event_count from usage_delta
union all
select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_pending;

-- What the totals say with what is not in them yet: what the views must say too.
create view usage_total_by_period as
select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity) as quantity,
  sum(u.event_count) as event_count
from (
  select license_id, meter, period_start, period_end, quantity, event_count
  from usage_license_period
  union all
  select w.license_id, w.meter,
    greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from),
    least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until), w.quantity, w.event_count
  from usage_unfolded w
  left join billing_interval b on b.license_id = w.license_id
    and b.effective_from <= w.day and (w.day < b.until or b.until is null)
) u group by 1, 2, 3, 4;
create view usage_total_by_customer_day as
select u.customer_id, u.meter, u.day, sum(u.quantity) as quantity, sum(u.event_count) as event_count
from (
  select customer_id, meter, day, quantity, event_count from usage_customer_day
  union all
  select coalesce(l.customer_id, ''), w.meter, w.day, w.quantity, w.event_count
  from usage_unfolded w left join license l on l.license_id = w.license_id
) u group by 1, 2, 3 having sum(u.event_count) <> 0 or sum(u.quantity) <> 0;

-- Each of the three reads below has two forms with one answer: from the totals, and, as long as the
-- totals of older days are being made, from the days. The planner inlines the forms. The function
-- that chooses compiles nothing: the estimates invite a compilation that costs more than the read.

-- What a customer's licenses used on each day of [from_day, to_day), by meter.
create function customer_days_by_totals(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select t.meter, t.day, t.quantity, t.event_count from usage_customer_day t
    where t.customer_id = customer and t.day >= from_day and t.day < to_day
    union all
    select w.meter, w.day, w.quantity, w.event_count
    from usage_unfolded w join license l on l.license_id = w.license_id
    where l.customer_id = customer and w.day >= from_day and w.day < to_day
  ) u group by 1, 2 having sum(u.event_count) <> 0
$$;
create function customer_days_by_days(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, u.day, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.meter, d.day, d.quantity, d.event_count
    from license l, lateral (
      select d.meter, d.day, d.quantity, d.event_count from usage_day d
      where d.license_id = l.license_id and d.day >= from_day and d.day < to_day offset 0) d
    where l.customer_id = customer
    union all
    select p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
    from usage_pending p join license l on l.license_id = p.license_id
    where l.customer_id = customer and (p.hour at time zone 'UTC')::date >= from_day
      and (p.hour at time zone 'UTC')::date < to_day
  ) u group by 1, 2
$$;
create function customer_usage_by_day(customer text, from_day date, to_day date)
returns table (meter text, day date, quantity numeric, event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from customer_days_by_totals(customer, from_day, to_day);
  else
    return query select * from customer_days_by_days(customer, from_day, to_day);
  end if;
end $$;

-- The periods of a customer's licenses that end after from_day and begin before to_day.
create function customer_periods_by_totals(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable parallel safe as $$
  select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity),
    sum(u.event_count)::bigint
  from (
    select t.license_id, t.meter, t.period_start, t.period_end, t.quantity, t.event_count
    from license l, lateral (
      select t.* from usage_license_period t where t.license_id = l.license_id
        and t.period_end > from_day and t.period_start < to_day offset 0) t
    where l.customer_id = customer
    union all
    select w.license_id, w.meter, p.first_day, p.end_day, w.quantity, w.event_count
    from usage_unfolded w join license l on l.license_id = w.license_id,
      period_of(w.license_id, w.day) p
    where l.customer_id = customer and p.end_day > from_day and p.first_day < to_day
  ) u group by 1, 2, 3, 4
$$;
create function customer_periods_by_days(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language sql stable parallel safe as $$
  select v.license_id, v.meter, (v.period_start at time zone 'UTC')::date,
    (v.period_end at time zone 'UTC')::date, v.quantity, v.event_count
  from usage_by_period v
  where v.license_id = any (array(select l.license_id from license l where l.customer_id = customer))
    and (v.period_end at time zone 'UTC')::date > from_day
    and (v.period_start at time zone 'UTC')::date < to_day
$$;
create function customer_usage_by_period(customer text, from_day date, to_day date)
returns table (license_id text, meter text, period_start date, period_end date, quantity numeric,
  event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from customer_periods_by_totals(customer, from_day, to_day);
  else
    return query select * from customer_periods_by_days(customer, from_day, to_day);
  end if;
end $$;

-- What all licenses used in the periods that a day lies in, by meter.
create function periods_of_day_by_totals(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    -- No period is longer than 31 days.
    select t.meter, t.quantity, t.event_count from usage_license_period t
    where t.period_end > on_day and t.period_end <= on_day + 31 and t.period_start <= on_day
    union all
    select w.meter, w.quantity, w.event_count
    from usage_unfolded w
    left join billing_interval b on b.license_id = w.license_id
      and b.effective_from <= w.day and (w.day < b.until or b.until is null)
    where greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
      and least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until) > on_day
  ) u group by 1
$$;
create function periods_of_day_by_days(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language sql stable parallel safe as $$
  select u.meter, sum(u.quantity), sum(u.event_count)::bigint
  from (
    select d.license_id, d.meter, d.day, d.quantity, d.event_count from usage_day d
    where d.day > on_day - 31 and d.day < on_day + 31
    union all
    select p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity, p.event_count
    from usage_pending p
  ) u
  left join billing_interval b on b.license_id = u.license_id
    and b.effective_from <= u.day and (u.day < b.until or b.until is null)
  where greatest(last_anchor(u.day, coalesce(b.anchor_day, 1)), b.effective_from) <= on_day
    and least(next_anchor(u.day, coalesce(b.anchor_day, 1)), b.until) > on_day
  group by 1
$$;
create function usage_in_periods_of(on_day date)
returns table (meter text, quantity numeric, event_count bigint)
language plpgsql stable set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  if (select is_complete from usage_total_state) then
    return query select * from periods_of_day_by_totals(on_day);
  else
    return query select * from periods_of_day_by_days(on_day);
  end if;
end $$;
