-- status: current (it contains now), past (it has ended and is not closed), closed, future.
create view billing_usage_by_period as
select l.customer_id, l.license_id, p.meter, p.period_start, p.period_end,
  case when p.closed_at is not null then 'closed' when p.period_start > now() then 'future'
    when p.period_end > now() then 'current' else 'past' end as status,
  p.quantity, p.event_count, p.included, p.overage,
  (select m.quantity from license_limit m where m.license_id = l.license_id and m.meter = p.meter)
    as limit_quantity,
  p.closed_at, p.period_id
from license l, lateral (
  -- OFFSET 0 keeps this apart, so that the sums are computed for each license separately.
  select * from usage_by_period b where b.license_id = l.license_id offset 0) p;
