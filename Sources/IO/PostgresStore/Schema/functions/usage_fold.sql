-- Moves deltas into the totals, and appended rows that are due into the hours and days. Returns how
-- many, or 0 if nothing waits or another process folds. One call does a part of both, so that
-- neither waits for the other to have nothing left, whatever version of the aggregator calls.
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
