create view usage_total_by_customer_day as
select u.customer_id, u.meter, u.day, sum(u.quantity) as quantity, sum(u.event_count) as event_count
from (
  select customer_id, meter, day, quantity, event_count from usage_customer_day
  union all
  select coalesce(l.customer_id, ''), w.meter, w.day, w.quantity, w.event_count
  from usage_unfolded w left join license l on l.license_id = w.license_id
) u group by 1, 2, 3 having sum(u.event_count) <> 0 or sum(u.quantity) <> 0;
