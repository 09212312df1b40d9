-- Merges that append.
--
-- Nine tenths of what a large merge cost were two upserts for each license-hour. Now it adds one row
-- for each to usage_appended, and a walk behind the merges adds those to the hour and day rows once
-- the hour is over, or where a license, meter and hour has many. So at every moment that a reader can
-- see:
--
--   usage_hour + usage_pending = all that was counted, by hour,
--   usage_day + usage_pending = all that was counted, by day,
--
-- with usage_appended in usage_pending, from which it inherits. That is what every reader added
-- before, so services of an older version read right as well, and their merges and folds call the
-- functions below. Totals, limits and what is late are counted by the merge: they leave out, and
-- read apart, only usage_pending itself.
--
-- A merge that runs while this is applied either ends as it began, or does not find
-- usage_merge_taken any more, changes nothing and is tried again. Folds, and changes of licenses,
-- whose statements add up days without what is appended, are kept away until this is committed.

select pg_advisory_xact_lock(usage_fold_lock_key());

update schema_version set version = 24;

-- The tables -------------------------------------------------------------------------------------

-- What large merges have taken from usage_pending and usage_combine has not yet added to the hour and
-- day rows. It is found by license, and counted already in the totals, the limits and what is late.
-- It inherits, so a reader of usage_pending reads it too: to the hours and days both are the same.
-- `only usage_pending` is what no merge has taken.
create table usage_appended () inherits (usage_pending) with (autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 100000, autovacuum_vacuum_insert_threshold = -1,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 200000);

create index usage_appended_by_license on usage_appended (license_id, hour);

-- How many merges have appended to usage_appended: none of them adds more than one row to a key.
create sequence usage_append_count;

-- When merges append, and how far usage_combine has walked over what they appended.
create table usage_append_state (
  only_row boolean primary key default true
    constraint usage_append_state_is_one_row check (only_row),
  -- A merge of fewer rows adds them to the hour and day rows itself.
  least_rows int not null default 10000,
  -- So many rows of a license, meter and hour are combined before the hour is over.
  key_rows int not null default 8,
  -- After so many merges that appended, a walk looks for those.
  walk_merges int not null default 16,
  -- The walk has passed the licenses up to this one, in the order of bytes; null: none is under way.
  walked_through text collate "C",
  -- Whether it takes every row, because nothing is being appended.
  is_whole boolean not null default false,
  -- When the last walk began, and usage_append_count then.
  began timestamptz not null default '-infinity',
  merges bigint not null default 0,
  -- usage_append_count as it was found last, and since when it has been that.
  seen bigint not null default 0,
  seen_at timestamptz not null default '-infinity'
);

insert into usage_append_state default values;

-- The merge ----------------------------------------------------------------------------------------

-- Held alone while appended rows are combined, and by a close. A merge that writes hour and day rows
-- holds it shared; one that does not get it without waiting appends instead. Always taken before
-- limit_lock_key() by whoever waits for it.
create function usage_combine_lock_key() returns bigint language sql immutable as $$
  select 84960541032
$$;

-- The license-days of which `merging` holds at least `least_share`, and which would go beyond `bound`
-- with all that is merged of them.
create function usage_merging_beyond(least_share numeric, bound numeric)
returns table (license_id text, meter text, day date)
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  return query
  with sums as (
    select m.license_id, m.meter, (m.hour at time zone 'UTC')::date as day, sum(m.quantity) as share
    from merging m group by 1, 2, 3 having sum(m.quantity) >= least_share
  )
  select s.license_id, s.meter, s.day from sums s
  where s.share
    + coalesce((select d.quantity from usage_day d
      where d.license_id = s.license_id and d.meter = s.meter and d.day = s.day), 0)
    + coalesce((select sum(a.quantity) from usage_appended a
      where a.license_id = s.license_id and a.meter = s.meter
        and a.hour >= s.day::timestamp at time zone 'UTC'
        and a.hour < (s.day + 1)::timestamp at time zone 'UTC'), 0) > bound;
end $$;

-- Sets aside the license-days of `merging` that no longer fit, so that they stop nobody else's.
create function usage_merging_isolate() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  with broken as materialized (
    select * from usage_merging_beyond(-1e30, 100000000000000000)
  ), aside as (
    delete from merging m using broken b
    where m.license_id = b.license_id and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
    returning m.*
  ) insert into usage_quarantine select *, now() from aside;
end $$;

-- Whether a merge of `merging`, of so many rows, appends them. Where it does not, it holds the lock
-- that keeps the combining away, so that neither waits for the other's rows. Raises check_violation
-- where a license's day no longer fits: then whoever merges tries again and sets it aside.
create function usage_merging_appends(moved bigint) returns boolean
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
begin
  -- A day is looked up only where a row is large: small ones would take millions of merges to fill
  -- what is left free below usage_day_fits, and then usage_combine leaves them where they are.
  if exists (select from merging where quantity >= 1000000000) then
    if exists (select from usage_merging_beyond(1000000000, 100000000000000000)) then
      raise exception 'a license-day no longer fits' using errcode = 'check_violation',
        constraint = 'usage_day_fits', table = 'usage_day';
    end if;
    if exists (select from usage_merging_beyond(1000000000, 90000000000000000)) then
      return false;
    end if;
  end if;
  if moved >= (select least_rows from usage_append_state) then return true; end if;
  return not pg_try_advisory_xact_lock_shared(usage_combine_lock_key());
end $$;

-- Appends the sums of `merging`, one row for each license, meter, hour and place in the log. In the
-- order of licenses, because then neighbors in the index are written one after the other.
create function usage_merging_append() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_appended (log_epoch, partition, license_id, meter, hour, first_offset,
    last_offset, quantity, event_count, minutes, dimensions)
  select log_epoch, partition, license_id, meter, hour, min(first_offset), max(last_offset),
    sum(quantity)::bigint, sum(event_count)::bigint,
    coalesce(string_agg(nullif(minutes, ''), ','), ''),
    coalesce(string_agg(nullif(dimensions, ''), ','), '')
  from merging group by license_id, hour, meter, log_epoch, partition
  order by license_id, hour, meter, log_epoch, partition;
  perform nextval('usage_append_count');
end $$;

-- Adds the rows of `merging` to the hour and day rows. They are written in the order of their keys,
-- hours before days, so that those who do it at the same time never deadlock.
create function usage_merging_settle() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
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
end $$;

-- Counts what `merging` holds for the totals, for what is late and for the limits, behind the rows
-- themselves: the limits add those up where they begin anew.
create function usage_merging_count() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  perform usage_late_count();
  perform limit_states_advance();
end $$;

-- Takes what is pending of some partitions, in one transaction, so that every reader sees each event
-- once: pending before, merged after. Large merges append, small ones write the hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if not exists (select from only usage_pending where partition = any (owned)) then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with taken as (
    delete from only usage_pending where partition = any (owned) returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 0; end if;
  if isolate then
    perform usage_merging_isolate();
    perform usage_merging_settle();
  elsif usage_merging_appends(moved) then
    perform usage_merging_append();
  else
    perform usage_merging_settle();
  end if;
  perform usage_merging_count();
  return moved;
end $$;

drop function usage_merge_taken(boolean);

-- The walk -----------------------------------------------------------------------------------------

-- Adds appended rows to the hour and day rows, up to about so many of the next licenses, and answers
-- how many; 0: nothing is due, or a merge writes hour and day rows just now. The walk takes the rows
-- of hours that are over, before that those of a key that has many, and all where nothing was appended
-- for five seconds. It is called by usage_fold, whose lock keeps a second walk away. One transaction:
-- what is cut off has done nothing.
create function usage_combine(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  state usage_append_state;
  appended bigint;
  last_license text collate "C";
  -- The hours before this one are over, but for what comes late.
  present timestamptz := date_trunc('hour', now() - interval '2 minutes', 'UTC');
  moved bigint;
begin
  select * into state from usage_append_state;
  if state.walked_through is null then
    if not exists (select from usage_appended) then return 0; end if;
    select last_value into appended from usage_append_count;
    if appended <> state.seen then
      state.seen_at := now();
      update usage_append_state set seen = appended, seen_at = now();
    end if;
    state.is_whole := state.seen_at < now() - interval '5 seconds';
    if not state.is_whole and state.began >= present
      and appended < state.merges + state.walk_merges
    then return 0; end if;
    state.walked_through := '';
    update usage_append_state set walked_through = '', is_whole = state.is_whole, began = now(),
      merges = appended;
  end if;
  if not pg_try_advisory_xact_lock(usage_combine_lock_key()) then return 0; end if;
  select license_id into last_license from usage_appended where license_id > state.walked_through
  order by license_id offset most - 1 limit 1;
  if last_license is null then
    select max(license_id) into last_license from usage_appended
    where license_id > state.walked_through;
  end if;
  update usage_append_state set walked_through = last_license;
  if last_license is null then return 0; end if;

  create temp table if not exists merging (like usage_pending) on commit delete rows;
  with chosen as (
    select ctid as place, hour, count(*) over (partition by license_id, meter, hour) as key_rows
    from usage_appended where license_id > state.walked_through and license_id <= last_license
  ), taken as (
    delete from usage_appended where ctid = any (array(
      select place from chosen
      where state.is_whole or hour < present or key_rows >= state.key_rows))
    returning *
  ) insert into merging select * from taken;
  get diagnostics moved = row_count;
  if moved = 0 then return 1; end if;
  begin
    perform usage_merging_settle();
  exception when check_violation or numeric_value_out_of_range then
    -- What does not fit stays appended, where readers see it as well, and stops nobody else's.
    with broken as materialized (
      select * from usage_merging_beyond(-1e30, 100000000000000000)
    ), kept as (
      delete from merging m using broken b where m.license_id = b.license_id
        and m.meter = b.meter and (m.hour at time zone 'UTC')::date = b.day
      returning m.*
    ) insert into usage_appended select * from kept;
    perform usage_merging_settle();
  end;
  return moved;
end $$;

-- Moves deltas into the totals, and appended rows that are due into the hours and days. Answers how
-- many; 0 where nothing waits or another process folds. One call does a part of both, so that neither
-- waits for the other to have nothing left, whatever version of the aggregator calls.
create or replace function usage_fold(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
begin
  if not pg_try_advisory_xact_lock(usage_fold_lock_key()) then return 0; end if;
  if not (select is_complete from usage_total_state) then
    moved := usage_totals_make(most);
    if moved > 0 then return moved; end if;
  end if;
  if not exists (select from usage_delta) then return usage_combine(least(most, 20000)); end if;
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
  return moved + usage_combine(least(most, 20000));
end $$;

-- Readers of what is merged, and of what is not --------------------------------------------------

-- What the totals hold of some licenses: what is merged of their days, without what waits in usage_delta. One statement
-- reads all, so a merge that commits meanwhile changes nothing.
create or replace function usage_folded(licenses text[])
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
    select a.license_id, a.meter, (a.hour at time zone 'UTC')::date, a.quantity, a.event_count
    from wanted w, lateral (
      select * from usage_appended u where u.license_id = w.license_id offset 0) a
    union all
    select d.license_id, d.meter, d.day, -d.quantity, -d.event_count
    from wanted w join usage_delta d on d.license_id = w.license_id
  ) f
  group by 1, 2, 3 having sum(f.quantity) <> 0 or sum(f.event_count) <> 0
$$;

-- Makes the totals of the next licenses whose days were there before. Answers the days added.
create or replace function usage_totals_make(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan as $$
declare
  state usage_total_state;
  last_license text collate "C";
  added bigint := 0;
begin
  select * into state from usage_total_state;
  if pg_snapshot_xmin(pg_current_snapshot()) <= state.installed_by then return 0; end if;
  select u.license_id into last_license
  from (
    select d.license_id from usage_day d where d.license_id > state.made_through
    union all
    select a.license_id from usage_appended a where a.license_id > state.made_through
  ) u order by 1 offset most - 1 limit 1;
  if last_license is null then
    select greatest(
      (select max(d.license_id) from usage_day d where d.license_id > state.made_through),
      (select max(a.license_id) from usage_appended a where a.license_id > state.made_through))
    into last_license;
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
        select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
        from usage_appended
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

-- Makes the states that are missing for these days, from what is merged and the manual adjustments as
-- they are now; answers those it made.
create or replace function limit_states_make(licenses text[], meters text[], days date[], new_version bigint)
returns table (license_id text, meter text, period_start date, period_end date) language sql as $$
  insert into limit_state as s (license_id, meter, period_start, period_end, limit_quantity, thresholds, used,
    next_quantity, version)
  select w.license_id, w.meter, w.first_day, w.end_day, l.quantity, c.alert_thresholds,
    (coalesce((select sum(d.quantity) from usage_day d where d.license_id = w.license_id and d.meter = w.meter
      and d.day >= w.first_day and d.day < w.end_day), 0)
    + coalesce((select sum(a.quantity) from usage_appended a where a.license_id = w.license_id
      and a.meter = w.meter and a.hour >= w.first_day::timestamp at time zone 'UTC'
      and a.hour < w.end_day::timestamp at time zone 'UTC'), 0)
    -- Bounded, so that the sum fits whatever was recorded.
    + least(greatest(coalesce((select sum(e.quantity) from usage_adjustment_entry e
        where e.license_id = w.license_id and e.meter = w.meter and e.kind = 'manual'
          and e.applies_to_period_start >= w.first_day and e.applies_to_period_start < w.end_day), 0),
      -4000000000000000000), 4000000000000000000))::bigint,
    limit_next_quantity(l.quantity, c.alert_thresholds, -1), new_version
  from (
    select distinct u.license_id, u.meter, p.first_day, p.end_day
    from unnest(licenses, meters, days) u(license_id, meter, day), period_of(u.license_id, u.day) p
  ) w
  join license_limit l on l.license_id = w.license_id and l.meter = w.meter
  join license c on c.license_id = w.license_id
  order by 1, 2, 3
  on conflict do nothing
  returning s.license_id, s.meter, s.period_start, s.period_end
$$;

-- Takes the locks of a close, and makes the table of what is to be closed: whole licenses from
-- closed_from to boundary, or one meter of one license.
create or replace function usage_close_lock() returns void language plpgsql as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'a close must see what was merged before it: use READ COMMITTED';
  end if;
  perform pg_advisory_xact_lock(close_lock_key());
  -- Before the lock that merges wait for.
  perform pg_advisory_xact_lock(usage_combine_lock_key());
  perform pg_advisory_xact_lock(limit_lock_key());
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

-- Closes what `closing` holds. Answers how many periods. Call it once in a transaction.
create or replace function usage_close_chosen(of_close bigint) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  made bigint;
begin
  with taken as (
    delete from only usage_pending p using closing c where p.license_id = c.license_id
      and p.hour < c.boundary::timestamp at time zone 'UTC' returning p.*
  ) insert into merging select * from taken;
  if found then
    perform usage_merging_isolate();
    perform usage_merging_append();
    perform usage_merging_count();
    delete from merging;
  end if;
  -- What is appended goes into the days that the periods are added up from. It is found by the index,
  -- whatever the planner guesses.
  with taken as (
    delete from usage_appended where ctid = any (array(
      select a.place from closing c, lateral (
        select u.ctid as place from usage_appended u where u.license_id = c.license_id
          and u.hour < c.boundary::timestamp at time zone 'UTC' offset 0) a))
    returning *
  ) insert into merging select * from taken;
  if found then perform usage_merging_settle(); end if;

  with interval_of as materialized (
    select b.license_id, b.effective_from, b.anchor_day,
      lead(b.effective_from) over (partition by b.license_id order by b.effective_from) as until
    from closing c join license_billing_anchor b on b.license_id = c.license_id
  ), covering as (
    select * from interval_of
    union all
    select c.license_id, '-infinity', 1, min(i.effective_from)
    from closing c left join interval_of i on i.license_id = c.license_id group by c.license_id
    having min(i.effective_from) is distinct from '-infinity'
  )
  insert into closing_period
  select c.license_id, d.meter, d.first_day, d.end_day, d.quantity, d.event_count
  from closing c join covering b on b.license_id = c.license_id, lateral (
    select u.meter, greatest(last_anchor(u.day, b.anchor_day), b.effective_from) as first_day,
      least(next_anchor(u.day, b.anchor_day), b.until) as end_day,
      sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
    from usage_day u
    where u.license_id = c.license_id and u.day >= greatest(c.closed_from, b.effective_from)
      and u.day < least(c.boundary, b.until) and (c.meter is null or u.meter = c.meter)
    group by 1, 2, 3 offset 0) d;
  -- What was closed alone before.
  delete from closing_period p using usage_period_closed x
  where x.license_id = p.license_id and x.meter = p.meter and x.period_start = p.period_start;

  -- What was late goes on the invoices that are closed now.
  insert into closing_late
  select t.license_id, t.meter, t.period_start, n.invoiced, t.quantity - t.recorded_quantity,
    t.event_count - t.recorded_event_count
  from closing c join usage_late t on t.license_id = c.license_id
    and (t.quantity <> t.recorded_quantity or t.event_count <> t.recorded_event_count)
    and (c.meter is null or t.meter = c.meter),
    lateral (select next_open_period(t.license_id, t.meter, t.period_end) as invoiced offset 0) n
  where n.invoiced >= c.closed_from and n.invoiced < c.boundary;
  insert into closing_period
  select a.license_id, a.meter, p.first_day, p.end_day, 0, 0
  from (
    select license_id, meter, invoiced from closing_late
    union
    select e.license_id, e.meter, e.invoiced_period_start
    from closing c join usage_adjustment_entry e on e.license_id = c.license_id
      and e.invoiced_period_start >= c.closed_from and e.invoiced_period_start < c.boundary
      and (c.meter is null or e.meter = c.meter)
  ) a, period_of(a.license_id, a.invoiced) p
  where not exists (
    select from usage_period_closed x where x.license_id = a.license_id and x.meter = a.meter
      and x.period_start <= a.invoiced and a.invoiced < x.period_end)
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
  left join license_limit l on l.license_id = p.license_id and l.meter = p.meter
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

-- What a license used of a meter in a period by domain; of a closed period without what is late.
-- Where a late event's domain was folded into `(other)`, it is taken off there.
create or replace function period_domains(license text, of_meter text, start date, ending date)
returns table (domain text, quantity bigint, event_count bigint)
language sql stable as $$
  with late as (
    select e->>1 as value, sum((e->>2)::bigint) as q, sum((e->>3)::bigint) as n
    from (
      select t.dimensions from usage_late t where t.license_id = license and t.meter = of_meter
        and t.period_start = start and t.dimensions <> ''
      union all
      select p.dimensions from only usage_pending p
      where p.license_id = license and p.meter = of_meter and p.dimensions <> ''
        and p.hour >= start::timestamp at time zone 'UTC'
        and p.hour < ending::timestamp at time zone 'UTC'
        and exists (
          select from usage_late_pending l where l.license_id = license and l.meter = of_meter
            and l.period_start = start)
    ) d, json_array_elements(('[' || d.dimensions || ']')::json) e
    where e->>0 = 'domain' group by 1
  ), named as (
    select d.value, sum(d.quantity) as q, sum(d.event_count) as n from usage_by_dimension_day d
    where d.license_id = license and d.meter = of_meter and d.dimension = 'domain'
      and d.bucket_start >= start::timestamp at time zone 'UTC'
      and d.bucket_start < ending::timestamp at time zone 'UTC'
    group by 1
  )
  select u.value, sum(u.q)::bigint, sum(u.n)::bigint
  from (
    select value, q, n from named
    union all
    select coalesce(m.value, '(other)'), -l.q, -l.n from late l left join named m using (value)
  ) u group by 1 having sum(u.q) <> 0 or sum(u.n) <> 0
$$;

-- What is pending of closed periods: late, but not in usage_late yet.
create or replace view usage_late_pending as
select p.license_id, p.meter,
  greatest(last_anchor(p.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
  least(next_anchor(p.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
  sum(p.quantity)::bigint as quantity, sum(p.event_count)::bigint as event_count
from (
  select license_id, meter, (hour at time zone 'UTC')::date as day, quantity, event_count
  from only usage_pending
  -- Mostly nothing is that old, and then nothing else is read.
  where hour < (select max(frozen_through)::timestamp at time zone 'UTC' from license_closing)
) p
join license_closing c on c.license_id = p.license_id and p.day < c.frozen_through
left join billing_interval b on b.license_id = p.license_id
  and b.effective_from <= p.day and (p.day < b.until or b.until is null)
where p.day < c.closed_through or exists (
  select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
    and x.period_start <= p.day and p.day < x.period_end)
group by 1, 2, 3, 4;

-- What is merged and not in the totals, and what is pending. The totals and these add up.
create or replace view usage_unfolded as
select license_id, meter, day, quantity, event_count from usage_delta
union all
select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from only usage_pending;
