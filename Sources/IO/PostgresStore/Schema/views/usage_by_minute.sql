create view usage_by_minute as
select license_id, meter, hour + make_interval(mins => minute) as bucket_start,
  sum(quantity)::bigint as quantity, sum(events)::bigint as event_count
from (
  select u.license_id, u.meter, u.hour, (e->>0)::int as minute, (e->>1)::bigint as quantity,
    (e->>2)::bigint as events
  from (
    select license_id, meter, hour, minutes from usage_hour
    union all
    select license_id, meter, hour, minutes from usage_pending
  ) u, json_array_elements(('[' || u.minutes || ']')::json) e
) m group by license_id, meter, hour, minute;
