create view usage_by_hour as
select license_id, meter, hour as bucket_start,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
from (
  select license_id, meter, hour, quantity, event_count from usage_hour
  union all
  select license_id, meter, hour, quantity, event_count from usage_pending
) u group by license_id, meter, hour;
