-- An hour whose row was dropped and made again by a late event would show only that event, so it is
-- not shown.
create view usage_by_hour as
select license_id, meter, hour as bucket_start,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count
from (
  select license_id, meter, hour, quantity, event_count from usage_hour
  union all
  select license_id, meter, hour, quantity, event_count from usage_waiting
) u
where hour > (select newest_hour_gone from usage_retention)
  or not usage_hour_gone(license_id, meter, hour)
group by license_id, meter, hour;
