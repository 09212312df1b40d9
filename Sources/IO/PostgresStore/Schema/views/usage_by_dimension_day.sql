create view usage_by_dimension_day as
select u.license_id, u.meter, u.day::timestamp at time zone 'UTC' as bucket_start, c.dimension, c.value,
  c.quantity, c.event_count
from (
  select license_id, meter, day, string_agg(dimensions, ',' order by is_pending) as dimensions
  from (
    select license_id, meter, day, dimensions, false as is_pending from usage_day where dimensions <> ''
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, dimensions, true from usage_waiting
    where dimensions <> ''
  ) parts group by license_id, meter, day
) u
left join license l on l.license_id = u.license_id,
  usage_dimensions_capped(u.dimensions, l.domains) c;
