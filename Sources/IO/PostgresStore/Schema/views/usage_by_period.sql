create or replace view usage_by_period as
select license_id || ':' || meter || ':' || to_char(first_day, 'YYYY-MM-DD') as period_id,
  license_id, meter, first_day::timestamp at time zone 'UTC' as period_start,
  end_day::timestamp at time zone 'UTC' as period_end,
  sum(quantity)::bigint as quantity, sum(event_count)::bigint as event_count,
  null::timestamptz as closed_at, null::bigint as included, null::bigint as overage
from (
  select d.license_id, d.meter, d.quantity, d.event_count,
    greatest(last_anchor(d.day, coalesce(b.anchor_day, 1)), b.effective_from) as first_day,
    least(next_anchor(d.day, coalesce(b.anchor_day, 1)), b.until) as end_day
  from (
    select license_id, meter, day, quantity, event_count from usage_day
    union all
    select license_id, meter, (hour at time zone 'UTC')::date, quantity, event_count
    from usage_pending
  ) d
  left join billing_interval b on b.license_id = d.license_id
    and b.effective_from <= d.day and (d.day < b.until or b.until is null)
) p group by license_id, meter, first_day, end_day;
