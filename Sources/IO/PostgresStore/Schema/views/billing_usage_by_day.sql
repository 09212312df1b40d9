-- The sums are made for each license by itself, so that a condition on the customer reads its licenses'
-- rows and no others.
create view billing_usage_by_day as
select l.customer_id, l.license_id, u.meter, u.bucket_start, u.quantity, u.event_count
from license l, lateral (
  select d.license_id, d.meter, d.day::timestamp at time zone 'UTC' as bucket_start,
    sum(d.quantity)::bigint as quantity, sum(d.event_count)::bigint as event_count
  from (
    select license_id, meter, day, quantity, event_count from usage_day
    where license_id = l.license_id
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
    from usage_pending where license_id = l.license_id
  ) d group by d.license_id, d.meter, d.day) u;
