-- Merges and folds that do not walk over dead rows.
--
-- While a reader's transaction is open nothing can remove what merges and folds have taken out of
-- usage_pending and usage_delta, and each of them walked over all of it, a merge even twice: after five
-- minutes at 20,000 rows a second over 6,000,000 rows. Now they begin where they found the last rows.

update schema_version set version = 27;

-- From which place on a queue is walked over whose rows are appended at its end; null: it is small,
-- and walked over whole. While a reader's transaction is open nothing can remove the rows that are
-- dead, and a large queue is mostly those. So a session begins where it found the last rows, and walks
-- over the whole only every ten seconds, for rows that were put into free room before that. What it
-- passes by is late, and no number depends on it: rows wait where every reader adds them.
create function usage_queue_start(queue text) returns tid language plpgsql as $$
declare
  pages bigint := pg_relation_size(queue::regclass) / current_setting('block_size')::bigint;
  place tid := nullif(current_setting('metering.' || queue || '_start', true), '');
  walked double precision := nullif(current_setting('metering.' || queue || '_walked', true), '');
  present double precision := extract(epoch from clock_timestamp());
begin
  if pages <= 8192 then return null; end if;
  if place is not null and (place::text::point)[0] < pages
    and walked > present - 10 and walked <= present
  then return place; end if;
  perform set_config('metering.' || queue || '_walked', present::text, false);
  return '(0,0)';
end $$;

-- Where a session took the last row of a queue. The next walk begins so far before it that backends
-- which still fill the pages that they have begun are not passed by.
create function usage_queue_taken(queue text, place tid) returns void language plpgsql as $$
begin
  if place is null then return; end if;
  perform set_config('metering.' || queue || '_start',
    format('(%s,0)', greatest((place::text::point)[0]::bigint - 1024, 0)), false);
end $$;

-- Takes what is pending of some partitions, in one transaction, so that every reader sees each event
-- once: pending before, merged after. Large merges append, small ones write the hour and day rows.
create or replace function usage_merge(owned int[], isolate boolean default false) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
  start tid := usage_queue_start('usage_pending');
  last_place tid;
begin
  perform pg_advisory_xact_lock_shared(limit_lock_key());
  if start is null and not exists (select from only usage_pending where partition = any (owned))
  then return 0; end if;
  create temp table if not exists merging (like usage_pending) on commit delete rows;
  if start is null then
    with taken as (
      delete from only usage_pending where partition = any (owned) returning *
    ) insert into merging select * from taken;
    get diagnostics moved = row_count;
  else
    with taken as (
      delete from only usage_pending p where p.partition = any (owned) and p.ctid >= start
      returning p.*, p.ctid as place
    ), kept as (
      insert into merging select log_epoch, partition, license_id, meter, hour, first_offset,
        last_offset, quantity, event_count, minutes, dimensions from taken
    ) select count(*), max(place) into moved, last_place from taken;
    perform usage_queue_taken('usage_pending', last_place);
  end if;
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

-- Moves deltas into the totals, and appended rows that are due into the hours and days. Answers how
-- many; 0 where nothing waits or another process folds. One call does a part of both, so that neither
-- waits for the other to have nothing left, whatever version of the aggregator calls.
create or replace function usage_fold(most int) returns bigint
language plpgsql set jit = off set plan_cache_mode = force_custom_plan set work_mem = '32MB' as $$
declare
  moved bigint;
  start tid := usage_queue_start('usage_delta');
  last_place tid;
begin
  if not pg_try_advisory_xact_lock(usage_fold_lock_key()) then return 0; end if;
  if not (select is_complete from usage_total_state) then
    moved := usage_totals_make(most);
    if moved > 0 then return moved; end if;
  end if;
  perform usage_meter_hours_fold(most);
  if start is null and not exists (select from usage_delta) then
    return usage_combine(least(most, 20000));
  end if;
  create temp table if not exists folding (
    license_id text collate "C" not null, meter text collate "C" not null, day date not null,
    quantity bigint not null, event_count bigint not null) on commit delete rows;
  with taken as (
    delete from usage_delta where ctid = any (array(
      select ctid from usage_delta where start is null or ctid >= start limit most))
    returning *, ctid as place
  ), counted as (
    select count(*) as n, max(place) as place from taken
  ), kept as (
    -- Days of licenses whose totals are not made yet are in the day rows that will make them.
    insert into folding
    select t.license_id, t.meter, t.day, sum(t.quantity), sum(t.event_count)
    from taken t, usage_total_state s
    where s.is_complete or t.license_id <= s.made_through group by 1, 2, 3
  )
  select n, place into moved, last_place from counted;
  perform usage_queue_taken('usage_delta', last_place);
  if moved = 0 then return usage_combine(least(most, 20000)); end if;
  perform usage_periods_add(array_agg(license_id), array_agg(meter), array_agg(day),
    array_agg(quantity), array_agg(event_count)) from folding;
  perform usage_customer_days_add(array_agg(l.customer_id), array_agg(f.meter), array_agg(f.day),
    array_agg(f.quantity::numeric), array_agg(f.event_count))
  from folding f left join license l on l.license_id = f.license_id;
  return moved + usage_combine(least(most, 20000));
end $$;
