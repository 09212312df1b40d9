-- The sums are computed as in billing_usage_by_day.
create view billing_usage_by_hour as
select u.customer_id, u.license_id, u.meter, u.hour as bucket_start,
  sum(u.quantity)::bigint as quantity, sum(u.event_count)::bigint as event_count
from (
  select l.customer_id, s.license_id, s.meter, s.hour, s.quantity, s.event_count
  from license l, lateral (
    select h.license_id, h.meter, h.hour, sum(h.quantity) as quantity,
      sum(h.event_count) as event_count
    from (
      select license_id, meter, hour, quantity, event_count from usage_hour
      where license_id = l.license_id
      union all
      select license_id, meter, hour, quantity, event_count from usage_appended
      where license_id = l.license_id
    ) h group by h.license_id, h.meter, h.hour
  ) s
  union all
  select l.customer_id, p.license_id, p.meter, p.hour, p.quantity, p.event_count
  from usage_unmerged p join license l on l.license_id = p.license_id
) u
where u.hour > (select newest_hour_gone from usage_retention) or not exists (
  -- Its readers may not call usage_hour_gone.
  select from usage_day d
  where d.license_id = u.license_id and d.meter = u.meter
    and d.day = (u.hour at time zone 'UTC')::date
    and (d.hours_gone >> extract(hour from u.hour at time zone 'UTC')::int) & 1 = 1)
group by u.customer_id, u.license_id, u.meter, u.hour;
