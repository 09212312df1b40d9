-- Minutes that add up to their hour. If some were not kept any more when a late event came, none of the
-- hour's are shown, as in usage_by_hour.
-- A condition on the hour reaches the index and the partitions.
create view usage_hour_minutes as
select u.license_id, u.meter, u.hour, m.minute,
  u.hour + make_interval(mins => m.minute) as bucket_start, m.quantity, m.event_count
from (
  select license_id, meter, hour, sum(event_count) as all_events,
    string_agg(nullif(minutes, ''), ',') as minutes
  from (
    select license_id, meter, hour, event_count, minutes from usage_hour
    union all
    select license_id, meter, hour, event_count, minutes from usage_waiting
  ) parts group by 1, 2, 3
) u, lateral (
  select (e->>0)::int as minute, sum((e->>1)::bigint)::bigint as quantity,
    sum((e->>2)::bigint)::bigint as event_count, sum(sum((e->>2)::bigint)) over () as all_events
  from json_array_elements(('[' || u.minutes || ']')::json) e group by 1
) m
where m.all_events = u.all_events
  and (u.hour > (select newest_hour_gone from usage_retention)
    or not usage_hour_gone(u.license_id, u.meter, u.hour));
