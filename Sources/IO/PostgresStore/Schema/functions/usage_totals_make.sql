-- Makes the totals of the next licenses whose days are older than the totals. Returns how many days
-- were added.
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
    -- A step that was cut off left nothing behind, because a step is one transaction.
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
