-- Pending usage of closed periods: it is late, but not in usage_late yet.
create or replace view usage_late_pending as
select p.license_id, p.meter,
  greatest(last_anchor(p.day, coalesce(b.anchor_day, 1)), b.effective_from) as period_start,
  least(next_anchor(p.day, coalesce(b.anchor_day, 1)), b.until) as period_end,
  sum(p.quantity)::bigint as quantity, sum(p.event_count)::bigint as event_count
from (
  select license_id, meter, (hour at time zone 'UTC')::date as day, quantity, event_count
  from usage_unmerged
  -- Usually nothing is that old, and then nothing else is read.
  where hour < (select max(frozen_through)::timestamp at time zone 'UTC' from license_closing)
) p
join license_closing c on c.license_id = p.license_id and p.day < c.frozen_through
left join billing_interval b on b.license_id = p.license_id
  and b.effective_from <= p.day and (p.day < b.until or b.until is null)
where p.day < c.closed_through or exists (
  select from usage_period_closed x where x.license_id = p.license_id and x.meter = p.meter
    and x.period_start <= p.day and p.day < x.period_end)
group by 1, 2, 3, 4;
