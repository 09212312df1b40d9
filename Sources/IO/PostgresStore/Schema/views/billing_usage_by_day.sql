-- The sums of merged rows are computed for each license separately, so that a condition on the customer
-- reads only its licenses' rows. Rows that no merge has taken are walked over once for all licenses.
create view billing_usage_by_day as
select u.customer_id, u.license_id, u.meter, u.day::timestamp at time zone 'UTC' as bucket_start,
  sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
from (
  select l.customer_id, s.license_id, s.meter, s.day, s.quantity, s.event_count
  from license l, lateral (
    select d.license_id, d.meter, d.day, sum(d.quantity) as quantity, sum(d.event_count) as event_count
    from (
      select license_id, meter, day, quantity, event_count from usage_day
      where license_id = l.license_id
      union all
      select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
      from usage_appended where license_id = l.license_id
    ) d group by d.license_id, d.meter, d.day
  ) s
  union all
  select l.customer_id, p.license_id, p.meter, (p.hour at time zone 'UTC')::date, p.quantity,
    p.event_count
  from usage_unmerged p join license l on l.license_id = p.license_id
) u group by u.customer_id, u.license_id, u.meter, u.day;
