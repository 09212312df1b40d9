-- The sums are made for each license by itself, as in billing_usage_by_day.
create view billing_usage_by_hour as
select l.customer_id, l.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from license l, lateral (
  select h.license_id, h.meter, h.hour as bucket_start,
    sum(h.quantity)::bigint as quantity, sum(h.event_count)::bigint as event_count
  from (
    select license_id, meter, hour, quantity, event_count from usage_hour
    where license_id = l.license_id
    union all
    select license_id, meter, hour, quantity, event_count
    from usage_pending where license_id = l.license_id
  ) h group by h.license_id, h.meter, h.hour) u;
