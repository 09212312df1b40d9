-- The license-days of which `merging` contains at least `least_share`, and which would exceed
-- `bound` together with everything that is merged of them.
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
