create view usage_by_day as
select license_id, meter, day::timestamp at time zone 'UTC' as bucket_start,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
from (
  select license_id, meter, day, quantity, event_count from usage_day
  union all
  select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count from usage_waiting
) u group by license_id, meter, day;
