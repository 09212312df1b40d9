create or replace view usage_by_period as
select license_id || ':' || meter || ':' || to_char(first_day, 'YYYY-MM-DD') as period_id,
  license_id, meter, first_day::timestamp at time zone 'UTC' as period_start,
  end_day::timestamp at time zone 'UTC' as period_end, quantity, event_count, closed_at, included,
  overage
from (
  select license_id, meter, period_start as first_day, period_end as end_day, quantity, event_count,
    closed_at, included, overage
  from usage_period_closed
  union all
  -- The meter had no usage when the license was closed, and the first late event is pending.
  select p.license_id, p.meter, p.period_start, p.period_end, 0, 0, c.closed_at, l.quantity, 0
  from usage_late_pending p join license_closing c on c.license_id = p.license_id
  left join license_limit l on l.license_id = p.license_id and l.meter = p.meter
  where not exists (
    select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
      and x.period_start = p.period_start)
  union all
  select license_id, meter, first_day, end_day, sum(quantity)::bigint, sum(event_count)::bigint,
    null, null, null
  from (
    select d.license_id, d.meter, d.quantity, d.event_count,
      greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) as first_day,
      least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) as end_day
    from (
      select license_id, meter, day, quantity, event_count from usage_day
      union all
      select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
      from usage_waiting
    ) d
    left join license_closing c on c.license_id = d.license_id
    left join billing_interval b on b.license_id = d.license_id
      and b.effective_from <= d.day and (d.day < b.until or b.until is null)
    where c.license_id is null or d.day >= c.closed_through and (
      d.day >= c.frozen_through or not exists (
        select from usage_period_closed x where x.license_id = d.license_id and x.meter = d.meter
          and x.period_start <= d.day and d.day < x.period_end))
  ) o group by license_id, meter, first_day, end_day
) p;
