-- Creates the states that are missing for these days, from what is merged and from the manual
-- adjustments as they are now. Returns the new states.
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
    -- This part is bounded, so that the sum fits, whatever was recorded.
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
