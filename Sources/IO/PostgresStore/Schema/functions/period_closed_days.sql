-- The parts by domain and feature of a closed period's days, as text for usage_dimensions_capped.
-- Nothing is appended before the first late event, unless it does not fit into its day.
create function period_closed_days(license text, of_meter text, start date, ending date)
returns table (day date, parts text)
language sql stable as $$
  select p.day, string_agg(p.dimensions, ',' order by p.is_appended)
  from (
    select d.day, d.dimensions, false as is_appended from usage_day d
    where d.license_id = license and d.meter = of_meter and d.day >= start and d.day < ending
      and d.dimensions <> ''
    union all
    select (a.hour at time zone 'UTC')::date, a.dimensions, true from usage_appended a
    where a.license_id = license and a.meter = of_meter
      and a.hour >= start::timestamp at time zone 'UTC'
      and a.hour < ending::timestamp at time zone 'UTC' and a.dimensions <> ''
  ) p group by 1
$$;
