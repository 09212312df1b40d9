create or replace view usage_total_by_period as
select u.license_id, u.meter, u.period_start, u.period_end, sum(u.quantity) as quantity,
  sum(u.event_count) as event_count
from (
  select license_id, meter, period_start, period_end, quantity, event_count
  from usage_license_period
  union all
  select w.license_id, w.meter,
    greatest(last_anchor(w.day, coalesce(b.anchor_day, 1)), b.effective_from),
    least(next_anchor(w.day, coalesce(b.anchor_day, 1)), b.until), w.quantity, w.event_count
  from usage_unfolded w
  left join billing_interval b on b.license_id = w.license_id
    and b.effective_from <= w.day and (w.day < b.until or b.until is null)
  union all
  select license_id, meter, period_start, period_end, -quantity, -event_count from usage_late_total
  union all
  -- This period was closed for the sake of an adjustment.
  select license_id, meter, period_start, period_end, 0, 0 from usage_period_closed
  where event_count = 0
) u group by 1, 2, 3, 4;
