-- What counts towards a limit in [first_day, end_day): the days, what is appended and the manual
-- adjustments.
create function limit_used(license text, of_meter text, first_day date, end_day date) returns bigint
language sql stable as $$
  select (coalesce((select sum(d.quantity) from usage_day d where d.license_id = license
      and d.meter = of_meter and d.day >= first_day and d.day < end_day), 0)
    + coalesce((select sum(a.quantity) from usage_appended a where a.license_id = license
      and a.meter = of_meter and a.hour >= first_day::timestamp at time zone 'UTC'
      and a.hour < end_day::timestamp at time zone 'UTC'), 0)
    -- It is bounded, so that the sum fits whatever was recorded.
    + least(greatest(coalesce((select sum(e.quantity) from usage_adjustment_entry e
        where e.license_id = license and e.meter = of_meter and e.kind = 'manual'
          and e.applies_to_period_start >= first_day and e.applies_to_period_start < end_day), 0),
      -4000000000000000000), 4000000000000000000))::bigint
$$;
