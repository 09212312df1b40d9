-- The hours of meters, of all licenses together: the overview and other questions about no license and
-- no customer need not read a row of each license.

update schema_version set version = 26;

-- What all licenses together used of a meter in an hour. A merge appends to the deltas, a fold moves them
-- here, and readers add both and what is pending.
create table usage_meter_hour (
  hour timestamptz not null,
  meter text collate "C" not null,
  quantity numeric not null,
  event_count bigint not null,
  primary key (hour, meter)
) with (fillfactor = 70);

-- What merges have added to the hours of meters and no fold has moved to usage_meter_hour.
create table usage_meter_hour_delta (
  hour timestamptz not null,
  meter text collate "C" not null,
  quantity numeric not null,
  event_count bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- From which hour on the hours of meters are there: events of earlier ones were merged before the table was.
create table usage_meter_hour_state (
  only_row boolean primary key default true
    constraint usage_meter_hour_state_is_one_row check (only_row),
  complete_from timestamptz not null
);

-- An empty database has all of its hours. Else a merge that began before this migration appends nothing. An
-- event is at most an hour ahead of its record, so such merges have long ended when the first hour
-- behind the next three begins.
insert into usage_meter_hour_state (complete_from)
select case when exists (select from usage_hour) or exists (select from consumer_offset)
  then date_trunc('hour', now()) + interval '4 hours' else '-infinity' end;

-- Moves what merges appended into the hours of meters, and drops hours that no question can name any
-- more. The caller holds usage_fold_lock_key().
create function usage_meter_hours_fold(most int) returns void language sql as $$
  with taken as (
    delete from usage_meter_hour_delta
    where ctid = any (array(select ctid from usage_meter_hour_delta limit most)) returning *
  )
  insert into usage_meter_hour as h (hour, meter, quantity, event_count)
  select hour, meter, sum(quantity), sum(event_count)::bigint from taken group by 1, 2 order by 1, 2
  on conflict (hour, meter) do update set quantity = h.quantity + excluded.quantity,
    event_count = h.event_count + excluded.event_count;
  delete from usage_meter_hour where hour < now() - interval '402 days'
$$;

-- Counts what `merging` holds for the totals, for what is late and for the limits, behind the rows
-- themselves: the limits add those up where they begin anew.
create or replace function usage_merging_count() returns void
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
begin
  insert into usage_delta (license_id, meter, day, quantity, event_count)
  select license_id, meter, (hour at time zone 'UTC')::date, sum(quantity)::bigint,
    sum(event_count)::bigint
  from merging group by 1, 2, 3;
  insert into usage_meter_hour_delta (hour, meter, quantity, event_count)
  select hour, meter, sum(quantity), sum(event_count)::bigint from merging group by 1, 2;
  perform usage_late_count();
  perform limit_states_advance();
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
  perform usage_meter_hours_fold(most);
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
